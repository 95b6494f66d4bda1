"""Programs of the host: at fixed places, or where the administrator says, and nowhere else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from skerry.errors import Error, VmError
from skerry.vm import confine, programs, settings

Configure = Callable[[object], None]


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Write the administrator's file."""

    def write(section: object) -> None:
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"vm": section}))
        path.chmod(0o644)
        monkeypatch.setattr(settings.load_config, "__defaults__", (str(path),))

    monkeypatch.setattr(settings.load_config, "__defaults__", (str(tmp_path / "nothing"),))
    return write


def test_the_first_that_is_there(configure: Configure) -> None:
    assert programs.find("x", ("/nowhere/x", "/bin/sh", "/bin/ls"), package="x") == "/bin/sh"
    with pytest.raises(VmError, match=r"cannot find /nowhere/x \(install the-package\)"):
        programs.find("x", ("/nowhere/x",), package="the-package")


def test_security_v46_path_and_environment_do_not_count(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """security V46"""
    trap = tmp_path / "virtiofsd"
    trap.write_text("#!/bin/sh\n")
    trap.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SKERRY_VIRTIOFSD", str(trap))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VmError, match="cannot find"):
        programs.find("virtiofsd", ("/nowhere/virtiofsd",), package="virtiofsd")


def test_the_administrator_says(configure: Configure) -> None:
    configure({"programs": {"virtiofsd": "/opt/virtiofsd"}, "disks": "/srv/disks", "uidBase": 5000})
    assert programs.find("virtiofsd", ("/bin/sh",), package="x") == "/opt/virtiofsd"
    assert programs.find("mkfs.erofs", ("/bin/sh",), package="x") == "/bin/sh"
    assert programs.disks_directory("/var/x") == "/srv/disks"
    assert programs.uid_base() == 5000


def test_defaults(configure: Configure) -> None:
    assert programs.disks_directory("/var/x") == "/var/x"
    assert programs.uid_base() == confine.BASE_UID


@pytest.mark.parametrize("value", ["virtiofsd", "./virtiofsd", "", 7, ["/bin/sh"]])
def test_only_absolute_paths(configure: Configure, value: object) -> None:
    configure({"programs": {"virtiofsd": value}, "disks": value})
    with pytest.raises(Error, match="/vm/programs/virtiofsd is not an absolute path"):
        programs.find("virtiofsd", ("/bin/sh",), package="x")
    with pytest.raises(Error, match="/vm/disks is not an absolute path"):
        programs.disks_directory("/var/x")


@pytest.mark.parametrize("value", [0, -1, True, "5000", 1.5, 1 << 32, 0xFFFFFFFE])
def test_no_user_of_the_host(configure: Configure, value: object) -> None:
    configure({"uidBase": value})
    with pytest.raises(Error, match="/vm/uidBase"):
        programs.uid_base()
