"""One containerd for the session; each test has its pods and containers removed, and what is left is a failure.

A test that takes `handler` runs once on containerd's own runc shim, the reference, and once on
skerry's. HANDLERS chooses others, by comma: `skerry-binary` and `crun` are command lines below runc's shim.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from containerd_driver import TOP, Containerd
from cri_client import Cri
from ctr_client import Ctr
from document import handlers
from leftovers import Leftovers
from support import host

SHIMS = {
    "skerry": TOP / "bin/containerd-shim-skerry-v2",
    "skerry-vm": TOP / "bin/containerd-shim-skerry-vm-v2",
}
HANDLERS = list(filter(None, os.environ.get("HANDLERS", "").split(",")))
PROGRAMS = ("containerd", "ctr", "runc", "unshare", "nsenter", "iptables", "/usr/lib/cni/bridge")
VM_PROGRAMS = ("qemu-system-x86_64", "mkfs.erofs")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marks = [
        mark
        for mark in metafunc.definition.iter_markers("parametrize")
        if mark.args[0] == "handler"
    ]
    if "handler" in metafunc.fixturenames and not marks:
        chosen = getattr(metafunc.module, "HANDLERS", ("runc", "skerry"))
        metafunc.parametrize("handler", HANDLERS or chosen)


@pytest.fixture(scope="session")
def containerd() -> Iterator[Containerd]:
    if os.geteuid() != 0:
        pytest.skip("containerd runs as root here")
    for program in PROGRAMS:
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    # Not pytest's own directory: its name is long, and socket paths end at 108 bytes.
    top = Path(tempfile.mkdtemp(prefix="ctrd-"))
    top.chmod(0o711)  # the root of a user namespace is nobody out here
    # crun takes no host that has both versions of cgroups.
    cgroups = "v1" if "crun" in HANDLERS and host.is_hybrid() else "host"
    daemon = Containerd(top, handlers=handlers(), path=str(TOP / "bin"), cgroups=cgroups)
    try:
        daemon.start()
        daemon.load_images()
        yield daemon
    finally:
        daemon.close()
        shutil.rmtree(top)


@pytest.fixture(scope="session")
def leftovers(containerd: Containerd) -> Leftovers:
    return Leftovers(containerd)


@pytest.fixture
def runc_leaves_sockets(leftovers: Leftovers, handler: str) -> None:
    """The reference's `delete` leaves the socket of a shim that was killed; ours does not."""
    if handler != "skerry":
        leftovers.tolerated = "/run/containerd/s/"


@pytest.fixture
def cri(containerd: Containerd, leftovers: Leftovers) -> Iterator[Cri]:
    yield containerd.cri
    containerd.cri.remove_all()
    left = leftovers.settle()
    assert not left, f"left behind: {left}"


@pytest.fixture
def ctr(containerd: Containerd, leftovers: Leftovers, handler: str) -> Iterator[Ctr]:
    client = Ctr(containerd, handler)
    yield client
    client.remove_all()
    left = leftovers.settle()
    assert not left, f"left behind: {left}"


@pytest.fixture(autouse=True)
def shim_exists(request: pytest.FixtureRequest) -> None:
    """Skip what asks for a shim that is not there; `make` builds ours."""
    wanted = getattr(request.node, "callspec", None) and request.node.callspec.params.get("handler")
    if wanted in SHIMS and not os.access(SHIMS[wanted], os.X_OK):
        pytest.skip(f"{SHIMS[wanted]} is not built")
    for program in VM_PROGRAMS if wanted == "skerry-vm" else ():
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
