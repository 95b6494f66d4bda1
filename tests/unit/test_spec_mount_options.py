"""Mount options: what each word becomes. The flags' effect is seen in the tests of plans."""

import json
import shutil
import subprocess
from typing import Any

import pytest

from skerry.errors import SpecError
from skerry.linux import abi
from skerry.spec.mount_options import known_options, parse_options

POINTER = "/mounts/0/options"
ATIME = 0x70  # MOUNT_ATTR__ATIME of linux/mount.h


def parsed(*options: str, kind: str = "") -> dict[str, Any]:
    """What differs from no options at all."""
    result = parse_options(list(options), POINTER, kind=kind)
    empty = parse_options([], POINTER)
    names = result.__slots__
    return {n: getattr(result, n) for n in names if getattr(result, n) != getattr(empty, n)}


def test_no_options() -> None:
    assert parsed() == {}
    assert parsed("defaults", "silent", "loud", "acl", "noacl", "iversion", "noiversion") == {}


@pytest.mark.parametrize(
    ("word", "bit"),
    [("suid", 2), ("dev", 4), ("exec", 8), ("diratime", 0x80), ("symfollow", 0x200000)],
)
def test_attributes(word: str, bit: int) -> None:
    """The bits are those of linux/mount.h."""
    assert parsed("no" + word) == {"set_attrs": bit}
    assert parsed(word) == {"clear_attrs": bit}
    assert parsed("no" + word, word) == {"clear_attrs": bit}
    assert parsed(word, "no" + word) == {"set_attrs": bit}
    assert parsed("rno" + word) == {"recursive_set": bit}
    assert parsed("r" + word) == {"recursive_clear": bit}
    assert parsed("no" + word, "r" + word) == {"set_attrs": bit, "recursive_clear": bit}


def test_read_only() -> None:
    assert parsed("ro") == {"set_attrs": 1, "flags": ["ro"]}
    assert parsed("ro", "rw") == {"clear_attrs": 1, "flags": ["rw"]}
    assert parsed("rro") == {"recursive_set": 1}
    assert parsed("rrw") == {"recursive_clear": 1}


def test_access_times() -> None:
    """mount_setattr(2): a value is set only together with clearing the whole field."""
    assert parsed("noatime") == {"set_attrs": 0x10, "clear_attrs": ATIME}
    assert parsed("strictatime") == {"set_attrs": 0x20, "clear_attrs": ATIME}
    assert parsed("relatime") == {"clear_attrs": ATIME}
    assert parsed("noatime", "strictatime") == {"set_attrs": 0x20, "clear_attrs": ATIME}
    assert parsed("atime") == parsed("nostrictatime") == {"clear_attrs": ATIME}
    assert parsed("strictatime", "atime") == {"set_attrs": 0x20, "clear_attrs": ATIME}
    assert parsed("strictatime", "nostrictatime") == {"clear_attrs": ATIME}
    assert parsed("norelatime") == {}
    assert parsed("rnoatime") == {"recursive_set": 0x10, "recursive_clear": ATIME}
    assert parsed("ratime") == {"recursive_clear": ATIME}
    assert parsed("rrelatime") == {"recursive_clear": ATIME}


def test_propagation_keeps_its_order() -> None:
    assert parsed("rslave", "shared")["propagation"] == [
        abi.MS_SLAVE | abi.MS_REC,
        abi.MS_SHARED,
    ]
    assert parsed("private")["propagation"] == [1 << 18]
    assert parsed("runbindable")["propagation"] == [1 << 17 | 0x4000]


def test_superblock_flags() -> None:
    assert parsed("sync", "async", "mand")["flags"] == ["async", "mand"]
    assert parsed("lazytime", "nolazytime")["flags"] == ["nolazytime"]
    assert parsed("dirsync", "dirsync")["flags"] == ["dirsync"]


def test_bind() -> None:
    assert parsed("bind") == {"bind": 1}
    assert parsed("bind", "rbind") == {"bind": 2}
    assert parsed(kind="bind") == {"bind": 1}
    assert parsed("rbind", kind="bind") == {"bind": 2}
    assert parsed("remount", "tmpcopyup") == {"remount": True, "tmpcopyup": True}


def test_what_is_not_in_the_table_is_data() -> None:
    words = ["size=5m", "mode=755", "newinstance", "rsize=1", "rfoo", "r", "", "NOSUID"]
    assert parsed(*words) == {"data": words}


@pytest.mark.parametrize(
    ("options", "kind", "at"),
    [(["bind", "size=5m"], "", 1), (["x", "rbind"], "", 0), (["ro", "mode=1"], "bind", 1)],
)
def test_a_bind_takes_no_data(options: list[str], kind: str, at: int) -> None:
    with pytest.raises(SpecError) as caught:
        parse_options(options, POINTER, kind=kind)
    assert caught.value.pointer == f"{POINTER}/{at}"


@pytest.mark.skipif(not shutil.which("runc"), reason="runc is not installed")
def test_knows_every_option_runc_knows() -> None:
    output = subprocess.run(["runc", "features"], capture_output=True, check=True).stdout
    assert set(json.loads(output)["mountOptions"]) <= set(known_options())
    for word in known_options():
        assert "data" not in parsed(word)
