"""Fixtures for the tests of skerry-init: the program, built once, and runs that end with the test.

Tests of the modules in EMULATED run twice: on this machine, and as the other machine's program under qemu-user.
"""

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
for folder in (str(ROOT / "src"), str(Path(__file__).parent)):
    if folder not in sys.path:
        sys.path.insert(0, folder)

from assembler import Run, Target  # noqa: E402

NATIVE = platform.machine()
FOREIGN = {"x86_64": "aarch64", "aarch64": "x86_64"}[NATIVE]
EMULATOR = shutil.which(f"qemu-{FOREIGN}") or shutil.which(f"qemu-{FOREIGN}-static")
EMULATED = ("test_calls", "test_small", "test_talk", "test_refusals", "test_copytree")
# not under emulation, and why: qemu-user 7.2 (Debian 12) is the oldest that these tests meet
NOT_EMULATED = {
    "test_clone3_goes_on_in_two_processes": "has no clone3",
    "test_wait_refuses_a_child_that_failed": "has no clone3",
    "test_park_ends_by_term_or_int": "has no clone3",
    "test_park_reaps_orphans": "has no clone3",
    "test_signals_are_back_to_default": "catches signals itself",
    "test_a_signal_at_the_gate_ends_the_process": "keeps the last real-time signals to itself",
    "test_find_under_a_filter": "a filter meets the emulator's own calls",
    "test_mutations": "spawns the program itself",
}


def pytest_generate_tests(metafunc) -> None:
    if "program" not in metafunc.fixturenames:
        return
    machines = [NATIVE]
    name = metafunc.function.__name__
    if metafunc.module.__name__ in EMULATED and name not in NOT_EMULATED:
        machines.append(FOREIGN)
    metafunc.parametrize("program", machines, indirect=True, scope="function")


@pytest.fixture(scope="session")
def built() -> Path:
    """Build skerry-init for every architecture there is a compiler for; the folder of the builds."""
    subprocess.run(["make", "-s", "-C", str(ROOT / "init")], check=True)
    return ROOT / "build"


@pytest.fixture
def program(built: Path, request, monkeypatch) -> list[str]:
    """The command that runs skerry-init; plans made from now on are for its machine."""
    machine = request.param
    path = built / machine / "skerry-init"
    emulator = [] if machine == NATIVE else [EMULATOR]
    if emulator == [None]:
        pytest.skip(f"no qemu-{machine} here")
    if not path.exists():
        pytest.skip(f"no compiler for {machine} here")
    monkeypatch.setattr(Target, "machine", machine)
    return [*emulator, str(path)]


@pytest.fixture
def start(program):
    """Start plans; what is left of them ends with the test."""
    runs: list[Run] = []

    def start_one(plan, **options) -> Run:
        runs.append(Run(options.pop("program", program), plan, **options))
        return runs[-1]

    yield start_one
    for run in runs:
        run.close()


@pytest.fixture
def perform(start):
    """Run a plan to its end: (status, the record it reported or None)."""

    def perform_one(plan, **options):
        run = start(plan, **options)
        status = run.wait()
        return status, run.record()

    return perform_one
