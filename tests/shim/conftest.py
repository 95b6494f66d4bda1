"""A stand-in for containerd with the real shim and real containers; what a test leaves behind is a failure of that test."""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from shim_box import Box
from support import host
from support.rootfs import build_template

CHECKOUT = Path(__file__).resolve().parents[2]
# Another, an installed one, by the environment.
SHIM = Path(os.environ.get("SHIM", CHECKOUT / "bin/containerd-shim-skerry-v2"))
VM_SHIM = SHIM.with_name("containerd-shim-skerry-vm-v2")


@pytest.fixture(scope="session")
def template() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("the shim runs as root here")
    if not os.access(SHIM, os.X_OK):
        pytest.skip(f"{SHIM} is not built")
    where = Path(tempfile.mkdtemp(prefix="shim-"))
    yield build_template(where)
    shutil.rmtree(where)


@pytest.fixture(scope="session", autouse=True)
def subreaper() -> Iterator[None]:
    """What a shim leaves becomes our child, and so is found."""
    host.prctl(36, 1)
    yield
    host.prctl(36, 0)


@pytest.fixture
def version() -> str:
    """A test that is parametrized with `version` has its own."""
    return "1.6"


@pytest.fixture
def shim() -> Path:
    """A module with another has its own."""
    return SHIM


@pytest.fixture
def box(template: Path, version: str, shim: Path) -> Iterator[Box]:
    # A short name: the paths of sockets end at 108 bytes.
    top = Path(tempfile.mkdtemp(prefix="shimtest-"))
    made = Box(top, template, shim, version)
    try:
        yield made
        left = made.clean()
    finally:
        made.kill_everything()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        shutil.rmtree(top, ignore_errors=True)
    assert not left, f"left behind: {left}"


@pytest.fixture(autouse=True)
def alarm(shim: Path) -> Iterator[None]:
    """Nothing here takes a minute, but VMs on a busy machine."""
    signal.alarm(90 if shim == SHIM else 400)
    yield
    signal.alarm(0)
