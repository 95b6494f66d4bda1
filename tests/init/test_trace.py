"""What skerry-init asks of the kernel, by strace: the calls of CALLS in plan/ops.py and no others."""

import re
import shutil
import stat
import struct

import pytest
from assembler import Label, Plan, Reg, Run

from skerry.plan import ops


@pytest.fixture
def trace(program, tmp_path):
    """Run a plan under strace: the lines after its execve, without process ids."""
    if not shutil.which("strace"):
        pytest.skip("no strace here")

    def trace_one(plan: Plan, *said: str) -> list[str]:
        out = tmp_path / "trace"
        run = Run(["strace", "-f", "-o", str(out), *program], plan)
        for kind in said:
            run.say(kind)
        run.wait()
        run.close()
        lines = [line.split(None, 1)[1] for line in out.read_text().splitlines()]
        assert lines[0].startswith("execve(")
        return lines[1:]

    return trace_one


def names(lines: list[str]) -> set[str]:
    """Which system calls a trace shows."""
    found = (re.match(r"(?:<\.\.\. )?(\w+)[( ]", line) for line in lines)
    return {match[1] for match in found if match}


def open_path(plan: Plan, path) -> Reg:
    fd = plan.register()
    plan.call("openat", -100, plan.blob(str(path)), 0o10000000, 0, to=fd)
    return fd


def check(plan: Plan, folder) -> None:
    plan.op("CHECK", open_path(plan, folder), stat.S_IFDIR, 0, 1, 0, fail="IGNORE")


def walk(plan: Plan, folder) -> None:
    (folder / "link").symlink_to("nowhere")
    plan.op("WALK", open_path(plan, folder), plan.blob("link/a/b"), ops.WALK_FILE, 0o600)


def copytree(plan: Plan, folder) -> None:
    (folder / "tree/dir").mkdir(parents=True)
    (folder / "tree/file").write_text("content")
    (folder / "tree/symlink").symlink_to("file")
    (folder / "copy").mkdir()
    plan.op("COPYTREE", open_path(plan, folder / "tree"), open_path(plan, folder / "copy"))


def send(plan: Plan, folder) -> None:
    plan.op("SEND", ops.FD, 0, 1)
    plan.op("SEND", ops.READY, 0, -1)


def find(plan: Plan, folder) -> None:
    plan.op("FIND", plan.pointers([plan.blob("/nonexistent"), plan.blob("/bin/sh")]), 2)


def hook(plan: Plan, folder) -> None:
    """Of a program that is not there: the calls of one that is are its own."""
    words = plan.strings(["none"])
    plan.op("HOOK", plan.blob("/nonexistent"), words, words, plan.room(64), 64, 1000)


def branch(plan: Plan, folder) -> None:
    away = Label()
    plan.op("BRANCH", 1, ops.NE, 2, target=away)
    plan.op("GOTO", target=away)
    plan.here(away)


def park(plan: Plan, folder) -> None:
    """With the signal that ends it pending."""
    pid = plan.register()
    term = plan.blob(struct.pack("<Q", 1 << 14), 8)
    plan.call("rt_sigprocmask", 0, term, 0, 8)
    plan.op("SYSCALL", number=(39, 172)[plan.column], to=pid)
    plan.call("kill", pid, 15)
    plan.op("PARK")


PERFORM = {
    "LOAD": lambda plan, folder: plan.op("LOAD", plan.room(8), 8),
    "STORE": lambda plan, folder: plan.op("STORE", plan.room(8), 8, 1),
    "GOTO": branch,
    "BRANCH": branch,
    "SEND": send,
    "RECV": lambda plan, folder: plan.op("RECV", ops.GO, plan.room(32), 32),
    "WRITE": lambda plan, folder: plan.op("WRITE", 1, plan.room(8), 0),
    "WALK": walk,
    "CHECK": check,
    "CHECKCWD": lambda plan, folder: plan.op("CHECKCWD"),
    "SIGNALS": lambda plan, folder: plan.op("SIGNALS"),
    "FIND": find,
    "HOOK": hook,
    "GATE": lambda plan, folder: plan.op("GATE", 0, -1, fail="IGNORE"),
    "CLOSE": lambda plan, folder: plan.op("CLOSE", 40, 44),
    "COPYTREE": copytree,
    "PARK": park,
    "WAIT": lambda plan, folder: plan.op("WAIT", 1, fail="IGNORE"),
}
# calls of the plan's own, before the operation
PREPARED = {"WALK": {"openat"}, "CHECK": {"openat"}, "PARK": {"getpid", "kill"}}


def test_all_operations_are_here():
    assert set(PERFORM) == set(ops.OPS) - {"SYSCALL"}


@pytest.mark.parametrize("name", PERFORM)
def test_an_operation_makes_the_calls_of_its_row(trace, name, tmp_path):
    plan = Plan()
    PERFORM[name](plan, tmp_path)
    made = names(trace(plan, *["GO"] * (name == "RECV")))
    allowed = {*ops.CALLS[name], *ops.CALLS_OF_START, *ops.CALLS_OF_END}
    assert made <= allowed | PREPARED.get(name, set())


@pytest.mark.parametrize("name", ["WALK", "COPYTREE", "FIND", "CHECK"])
def test_it_opens_what_the_plan_names(trace, name, tmp_path):
    """V04: no loader, no locale, no NSS, no module."""
    plan = Plan()
    PERFORM[name](plan, tmp_path)
    lines = trace(plan)
    opened = {re.findall(r'"([^"]*)"', line)[0] for line in lines if line.startswith("open")}
    folders = {str(tmp_path), str(tmp_path / "tree"), str(tmp_path / "copy")}
    below = {
        "WALK": {"link/a/b", "link", "nowhere", "nowhere/a", "nowhere/a/b", "b"},
        "COPYTREE": {".", "dir", "file"},
    }
    assert opened <= folders | below.get(name, set())
    assert not [line for line in lines if re.match(r"execve|clone|socket|connect|brk", line)]


def test_what_it_asks_before_the_first_operation(trace):
    lines = trace(Plan())
    calls = [line.partition("(")[0] for line in lines]
    assert calls[:4] == ["statx", "mmap", "fcntl", "exit_group"]
