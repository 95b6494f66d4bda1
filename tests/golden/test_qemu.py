"""QEMU's command lines, kept as text to be reviewed: what is in one is all that a guest can reach."""

from pathlib import Path

import pytest

from skerry.vm import accel, machine
from skerry.vm.hardware import Hardware

HERE = Path(__file__).parent / "qemu"
MAC = "02:00:00:00:00:01"
# name -> (hardware, cold boot, clone)
CASES = {
    "microvm": (dict(macs=[MAC]), dict(shared=True, incoming=False)),
    "microvm_clone": (dict(macs=[MAC]), dict(shared=False, incoming=True)),
    "microvm_kvm": (dict(accelerator="kvm", vcpus=2, memory_mib=1024), dict(shared=True, incoming=False)),
    "q35": (dict(profile="q35", shares=True), dict(shared=True, incoming=False)),
    "q35_operator": (
        dict(profile="q35", program="/opt/qemu", parameters=["-name", "pod"], words=["loglevel=7"]),
        dict(shared=True, incoming=False),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_command_line_is_the_reviewed_one(name, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "clock_khz", lambda: 2100000)
    hardware, how = CASES[name]
    words = machine.command_line(Hardware("/kernel", "/initrd", **hardware), **how)
    lines: list[str] = []
    for word in words:
        if word.startswith("-") or not lines or " " in lines[-1]:
            lines.append(word)
        else:
            lines[-1] += f" {word}"
    file = HERE / f"{name}.txt"
    found = "\n".join(lines) + "\n"
    if pytestconfig.getoption("--update"):
        file.write_text(found)
    assert found == file.read_text()


def test_no_golden_file_is_left_over() -> None:
    assert {file.stem for file in HERE.glob("*.txt")} == set(CASES)
