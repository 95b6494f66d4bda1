"""What a machine is made of, decided from what was asked for."""

from pathlib import Path

import pytest

from skerry.errors import VmError
from skerry.log import open_log
from skerry.vm import accel, devices, hardware
from skerry.vm.accel import Choice
from skerry.vm.confine import BASE_UID
from skerry.vm.hardware import Hardware
from skerry.vm.settings import Settings, load_config


def decide(settings: Settings, tmp_path: Path, **more: object) -> tuple[Hardware, str]:
    log = open_log(str(tmp_path / "log"))
    found = hardware.decide(settings, log=log, **more)
    log.close()
    return found, (tmp_path / "log").read_text()


@pytest.fixture
def settings() -> Settings:
    settings = Settings()
    settings.kernel, settings.initrd = "/k", "/i"
    return settings


@pytest.mark.parametrize(
    ("wanted", "shares", "profile"),
    [("", False, "microvm"), ("", True, "q35"), ("q35", False, "q35"), ("q35", True, "q35"), ("microvm", False, "microvm")],
)
def test_the_profile(settings: Settings, tmp_path: Path, wanted: str, shares: bool, profile: str) -> None:
    settings.profile = wanted
    found, _ = decide(settings, tmp_path, shares=shares)
    assert (found.profile, found.shares) == (profile, shares)


def test_what_cannot_be_both_is_refused(settings: Settings, tmp_path: Path) -> None:
    settings.profile = "microvm"
    with pytest.raises(VmError, match="takes no shares"):
        decide(settings, tmp_path, shares=True)
    with pytest.raises(VmError, match='unknown profile "pc"'):
        Hardware("/k", "/i", profile="pc")


def test_emulation_is_said_once(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "choose", lambda wanted: Choice("tcg", "no such device"))
    found, said = decide(settings, tmp_path)
    assert found.accelerator == "tcg" and said.count("emulated without KVM: no such device") == 1
    monkeypatch.setattr(accel, "choose", lambda wanted: Choice("kvm", ""))
    (tmp_path / "log").unlink()
    found, said = decide(settings, tmp_path)
    assert found.accelerator == "kvm" and said == ""


def test_the_administrators_user_ids(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/vm/uidBase"""
    path = tmp_path / "config.json"
    path.write_text('{"vm": {"uidBase": 5000000}}')
    path.chmod(0o644)
    monkeypatch.setattr(load_config, "__defaults__", (str(path),))
    assert decide(settings, tmp_path)[0].uid_base == 5000000
    monkeypatch.setattr(load_config, "__defaults__", (str(tmp_path / "nothing"),))
    assert decide(settings, tmp_path)[0].uid_base == BASE_UID


def test_everything_is_passed_on(settings: Settings, tmp_path: Path) -> None:
    settings.memory_mib, settings.vcpus, settings.accelerator = 512, 3, "kvm"
    settings.hypervisor, settings.hypervisor_parameters = "/opt/qemu", ["-name", "x"]
    settings.kernel_parameters = ["loglevel=7"]
    found, _ = decide(settings, tmp_path, macs=["02:00:00:00:00:01"])
    assert (found.memory_mib, found.vcpus, found.accelerator) == (512, 3, "kvm")
    assert (found.program, found.parameters, found.words) == ("/opt/qemu", ["-name", "x"], ["loglevel=7"])
    assert (found.kernel, found.initrd, found.macs) == ("/k", "/i", ["02:00:00:00:00:01"])


def test_only_an_emulated_guest_is_told_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "clock_khz", lambda: 2100000)
    assert Hardware("/k", "/i", accelerator="kvm").khz == 0
    assert Hardware("/k", "/i", accelerator="tcg").khz == 2100000
    assert "tsc_early_khz" not in devices.command_line(0, [])
    assert devices.command_line(5, ["quiet=0"]).endswith("tsc_early_khz=5 quiet=0")
