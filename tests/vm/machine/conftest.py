"""Machines with the small guest of tests/support/guest."""

import os
from collections.abc import Callable, Iterator

import pytest
from support import guest as small_guest
from support import host
from support.vm import Guest, booted

from skerry import log
from skerry.linux.fd import open_fds
from skerry.rpc.loop import Loop
from skerry.vm import template
from skerry.vm.hardware import Hardware


@pytest.fixture(scope="session")
def files() -> tuple[str, str]:
    """(kernel, initramfs)."""
    if why := small_guest.missing():
        pytest.skip(why)
    return small_guest.build()


@pytest.fixture
def hardware(files: tuple[str, str]) -> Hardware:
    return Hardware(*files)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Templates of the session; they are destroyed with it."""
    root = str(tmp_path_factory.mktemp("root"))
    yield root
    for row in template.list_all(root):
        template.destroy(root, row["key"])
    assert not template.list_all(root)


@pytest.fixture
def clone(loop: Loop, root: str) -> Iterator[Callable[..., Guest]]:
    """Start machines from templates of the session; they end with the test."""
    guests: list[Guest] = []

    def start(hardware: Hardware, **options: object) -> Guest:
        machine = loop.complete(template.start(loop, root, hardware, log=log.SILENT, **options))
        guests.append(Guest(loop, machine))
        assert machine.cloned
        return guests[-1]

    yield start
    for guest in guests:
        guest.end()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture(scope="module")
def guest(files: tuple[str, str]) -> Iterator[Guest]:
    """One microvm for the tests of a module that leave it as it was."""
    with booted(Loop(), Hardware(*files)) as guest:
        yield guest


@pytest.fixture(autouse=True, scope="module")
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No process and no descriptor outlives a module's tests."""
    before = open_fds()
    yield
    names = [host.status_of(pid)["Name"] for pid in host.descendants() if os.path.exists(f"/proc/{pid}")]
    assert [name for name in names if name != "skerry:keeper"] == []  # of the session's templates
    assert open_fds() == before
