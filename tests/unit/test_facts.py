"""Facts of the host that decide whether anything can be made at all."""

import posix

import pytest

from skerry.errors import Error
from skerry.native import facts


def uname(monkeypatch: pytest.MonkeyPatch, release: str, machine: str = "x86_64") -> None:
    answer = posix.uname_result(("Linux", "host", release, "#1", machine))
    monkeypatch.setattr(facts.posix, "uname", lambda: answer)


@pytest.mark.parametrize("release", ["5.14.0", "5.14-rc1", "5.15.0-91-generic", "6.1.0-13-amd64", "6.18.5", "10.0", "odd"])
def test_kernels_that_will_do(monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    """decisions 15; where the release says nothing, the first call that fails will."""
    uname(monkeypatch, release)
    assert facts.machine() == "x86_64"


@pytest.mark.parametrize("release", ["5.13.19", "5.4.0-150-generic", "4.18.0-477.el8", "3.10"])
def test_older_kernels_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    """decisions 15: mount_setattr with the propagation that is needed, cgroup.kill, openat2."""
    uname(monkeypatch, release)
    with pytest.raises(Error, match=rf"cannot run on Linux {release}: skerry needs 5\.14 or newer"):
        facts.machine()


def test_other_machines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    uname(monkeypatch, "6.18.5", "riscv64")
    with pytest.raises(Error, match="cannot run on riscv64: skerry is built for x86_64 and aarch64"):
        facts.machine()
