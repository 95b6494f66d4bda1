"""Machines with the small guest of tests/support/guest."""

import os
from collections.abc import Iterator

import pytest
from support import guest as small_guest
from support import host
from support.vm import Guest, booted

from skerry.linux.fd import open_fds
from skerry.rpc.loop import Loop
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
    left = [(pid, open(f"/proc/{pid}/comm").read()) for pid in host.descendants() if os.path.exists(f"/proc/{pid}")]
    assert not left
    assert open_fds() == before
