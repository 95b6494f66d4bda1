"""The workbench of the reliability tests: containers of this checkout's skerry, and the question what is left of them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import host, leaks
from support.box import Box
from support.rootfs import build_template
from support.runtime import Runtime
from support.session import pytest_pyfunc_call  # noqa: F401  a hook of this suite

BINARY = Path(__file__).resolve().parents[2] / "bin/skerry"


class Bench:
    """What all boxes of a session share."""

    def __init__(self, work: Path, token: str) -> None:
        self.template = build_template(work)
        self.runtime = Runtime(str(BINARY), work / "root", self.template / "bin/probe")
        self.work, self.token, self.boxes = work, token, 0

    def box(self) -> Box:
        self.boxes += 1
        return Box(self.runtime, self.template, self.work, self.token, self.boxes)


@pytest.fixture(scope="session")
def bench() -> Iterator[Bench]:
    if os.geteuid():
        pytest.skip("needs root")
    if not BINARY.exists():
        pytest.skip(f"no runtime at {BINARY}: make")
    if shutil.which("busybox") is None:
        pytest.skip("needs a static busybox (package busybox-static)")
    token = f"rel{os.urandom(3).hex()}"
    work = Path(tempfile.mkdtemp(prefix=f"{token}-"))
    (work / "root").mkdir(mode=0o700)
    try:
        yield Bench(work, token)
    finally:
        leaks.remove(token, token + "-", work / "root")
        leaks.remove_parents(token)
        leaks.unmount_below(str(work))
        shutil.rmtree(work)


@pytest.fixture
def box(bench: Bench) -> Iterator[Box]:
    """Give a test its workbench. What a runtime abandons becomes our child while it runs."""
    host.prctl(host.PR_SET_CHILD_SUBREAPER, 1)
    box = bench.box()
    try:
        yield box
        if box.dir.exists():
            box.clean()
    finally:
        host.prctl(host.PR_SET_CHILD_SUBREAPER, 0)
