"""Tests that boot virtual machines, by emulation where the host has no KVM."""

import os
from pathlib import Path

import pytest

HYPERVISOR = Path("/usr/bin/qemu-system-x86_64")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    why = "needs root" if os.geteuid() else "" if HYPERVISOR.exists() else f"no {HYPERVISOR} (package qemu-system-x86)"
    for item in items:
        if why and "/vm/" in str(item.path):
            item.add_marker(pytest.mark.skip(reason=why))
