"""skerry-init as a file: its table, its size, and what it costs to wait in it."""

import os
import re
import shutil
import socket
import subprocess
import sys

import pytest
from assembler import Plan, Run, sealed
from conftest import ROOT

from skerry.linux import abi
from skerry.plan import ops

SOURCES = sorted(path for path in (ROOT / "init").glob("*.[ch]") if path.name != "ops.h")
COMPILERS = {"x86_64": "gcc", "aarch64": "aarch64-linux-gnu-gcc"}
SIZE_LIMIT_BYTES = 32 << 10
IDLE_LIMIT_KIB = 52


def compiler(machine: str) -> str:
    name = "gcc" if os.uname().machine == machine else COMPILERS[machine]
    if not shutil.which(name):
        pytest.skip(f"no compiler for {machine} here")
    return name


# the table


def test_the_header_is_the_table():
    """init/ops.h is what tools/gen_ops.py prints now."""
    printed = subprocess.run(
        [sys.executable, str(ROOT / "tools/gen_ops.py")], check=True, capture_output=True, text=True
    )
    assert printed.stdout == (ROOT / "init/ops.h").read_text()


@pytest.mark.parametrize("machine", sorted(abi.MACHINES))
def test_numbers_of_system_calls_are_the_kernels(machine, tmp_path):
    """asm/unistd.h of each machine agrees with linux/abi.py."""
    text = "#include <asm/unistd.h>\n"
    for name, numbers in abi.SYSCALLS.items():
        text += f'_Static_assert(__NR_{name} == {numbers[abi.MACHINES[machine]]}, "{name}");\n'
    command = [compiler(machine), "-x", "c", "-fsyntax-only", "-"]
    done = subprocess.run(command, input=text, text=True, capture_output=True)
    assert done.stderr == ""


def used_calls() -> set[str]:
    return {name for path in SOURCES for name in re.findall(r"\bNR_(\w+)", path.read_text())}


def test_no_system_call_without_a_row():
    """Every one that the C files make is in CALLS, and every one of CALLS is made."""
    rows = {name for row in ops.CALLS.values() for name in row}
    assert set(ops.CALLS) == set(ops.OPS)
    assert used_calls() == rows | set(ops.CALLS_OF_START) | set(ops.CALLS_OF_END)


def test_the_only_free_call_is_the_operation():
    """Whatever a plan asks for goes through op_syscall; all else is named."""
    files = {path.name: path.read_text() for path in SOURCES if path.suffix == ".c"}
    assert [name for name, text in files.items() if "raw_call" in text] == ["ops.c"]
    assert files["ops.c"].count("raw_call") == 1
    assert not [name for name, text in files.items() if re.search(r"\bcall\d\((?!NR_)", text)]


SHORT_ROWS = {"SYSCALL": "number(args...)", "CLOSE": "lowest keep..."}


@pytest.mark.parametrize("name", [name for name in ops.OPS if name != "GOTO"])
def test_every_operation_has_its_row_named(name):
    """The C function of an operation begins with its row."""
    row = f"{name} {SHORT_ROWS.get(name, ops.OPS[name][1])}".strip()
    assert any(f"\n/* {row}" in path.read_text() for path in SOURCES)


# the file


@pytest.mark.parametrize("machine", sorted(abi.MACHINES))
def test_a_small_file_without_a_library(built, machine):
    """No interpreter, no library, no relocation, no symbol that is missing, no stack that may be executed."""
    path = built / machine / "skerry-init"
    if not path.exists():
        pytest.skip(f"no compiler for {machine} here")
    assert path.stat().st_size < SIZE_LIMIT_BYTES
    text = subprocess.run(
        ["readelf", "-W", "-l", "-d", "-r", "-s", str(path)], check=True, capture_output=True, text=True
    ).stdout
    assert "no relocations" in text
    assert not re.search(r"INTERP|NEEDED|TEXTREL|\bUND\b +\w", text)
    assert re.search(r"Type: DYN|file type is DYN", text)
    flags = dict(re.findall(r"^ +(GNU_STACK|LOAD) .* (R?W?E?[ RWE]*) 0x", text, re.M))
    assert "E" not in flags["GNU_STACK"]
    assert not re.search(r"LOAD .* RWE 0x", text)


@pytest.mark.parametrize("machine", sorted(abi.MACHINES))
def test_no_words_in_it(built, machine):
    """It says numbers, Python says words: the longest text in the file is one of the linker."""
    path = built / machine / "skerry-init"
    if not path.exists():
        pytest.skip(f"no compiler for {machine} here")
    words = re.findall(rb"[a-z]{4,} [a-z ]{6,}", path.read_bytes())
    assert words == []


# what it costs to wait


def test_an_idle_process_is_tiny(built, tmp_path):
    """A created container waits as this: from a sealed memfd, at the gate, with all of a plan behind it."""
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.bind(str(tmp_path / "gate"))
    plan = Plan()
    plan.op("SIGNALS")
    room = plan.room(4096)
    for _ in range(50):
        plan.op("CHECKCWD")
        plan.op("WRITE", 1, room, 0)
    plan.op("SEND", ops.READY, 0, -1)
    plan.op("RECV", ops.GO, room, 64)
    plan.op("SEND", ops.READY, 0, -1)
    plan.op("GATE", ours.fileno(), -1)
    program = sealed((built / os.uname().machine / "skerry-init").read_bytes())
    run = Run([f"/proc/self/fd/{program}"], plan, fds=[program, ours.fileno()])
    try:
        run.record()
        run.say("GO")
        run.record()
        with open(f"/proc/{run.process.pid}/smaps_rollup") as file:
            idle = int(re.search(r"^Pss: +(\d+)", file.read(), re.M)[1])
        plan_kib = len(plan.encode()) >> 10
    finally:
        run.close()
        os.close(program)
        ours.close()
    assert idle - plan_kib <= IDLE_LIMIT_KIB
