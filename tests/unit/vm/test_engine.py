"""Both engines have one face (engine.py), and the vmshim's table is that of the document."""

import inspect
import re
from pathlib import Path

from skerry import engine
from skerry.native.engine import NativeEngine
from skerry.vm.engine import VmEngine
from skerry.vm.operations import OPERATIONS

ROOT = Path(__file__).resolve().parents[3]
# What only one of them has use for: the guest's agent asks the native engine for more.
NATIVE_ONLY = {"cgroup"}


def face(kind: type) -> dict[str, list[str]]:
    methods = inspect.getmembers(kind, inspect.isfunction)
    return {n: [p.lstrip("_") for p in inspect.signature(m).parameters] for n, m in methods if not n.startswith("_")}


def test_engines_have_the_same_methods() -> None:
    native, vm = face(NativeEngine), face(VmEngine)
    assert set(native) - NATIVE_ONLY == set(vm)
    for name in vm:
        assert [p.strip("_") for p in native[name]] == [p.strip("_") for p in vm[name]], name


def test_the_interface_names_every_method() -> None:
    text = engine.__doc__ or ""
    missing = [name for name in face(VmEngine) if not re.search(rf"\b{name}\b", text)]
    assert not missing


def test_operations_are_those_of_the_document() -> None:
    text = (ROOT / "docs/vm.md").read_text()
    table = text[text.index("| Op | Value") : text.index("After `attach` and `exec` the connection")]
    names = set()
    for line in table.splitlines():
        if line.startswith("| `"):
            names |= set(re.findall(r"`([a-z-]+)`", line.split("|")[1]))
    assert names == set(OPERATIONS)
