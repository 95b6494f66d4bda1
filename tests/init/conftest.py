"""Fixtures for the tests of skerry-init: the program, built once, and runs that end with the test."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
for folder in (str(ROOT / "src"), str(Path(__file__).parent)):
    if folder not in sys.path:
        sys.path.insert(0, folder)

from assembler import MACHINE, Run  # noqa: E402


@pytest.fixture(scope="session")
def built() -> Path:
    """Build skerry-init for every architecture there is a compiler for; the folder of the builds."""
    subprocess.run(["make", "-s", "-C", str(ROOT / "init")], check=True)
    return ROOT / "build"


@pytest.fixture(scope="session")
def program(built: Path) -> list[str]:
    return [str(built / MACHINE / "skerry-init")]


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
