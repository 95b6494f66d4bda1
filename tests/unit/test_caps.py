"""Capabilities against the kernel's own header and files."""

import re
from pathlib import Path

import pytest

from skerry.linux import caps

HEADER = Path("/usr/include/linux/capability.h")


@pytest.mark.skipif(not HEADER.exists(), reason=f"{HEADER} is not installed")
def test_numbers_are_the_header_s() -> None:
    found = re.findall(r"^#define (CAP_[A-Z_]+)\s+(\d+)$", HEADER.read_text(), re.MULTILINE)
    assert {name: int(number) for name, number in found} == caps.CAPS


def test_every_capability_once_in_order() -> None:
    assert list(caps.CAPS.values()) == list(range(41))


def test_last_cap_and_bounding_are_the_kernel_s() -> None:
    assert caps.last_cap() == int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
    assert caps.bounding() == int(line.split()[1], 16)
    assert caps.bounding() < 1 << (caps.last_cap() + 1)


def test_mask() -> None:
    assert caps.mask([]) == 0
    assert caps.mask(["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE", "CAP_CHOWN"]) == 1 | 1 << 40
    assert caps.mask(["CAP_NO_SUCH", "cap_chown", "CHOWN"]) == 0
