"""skerry template: list and destroy."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.native import keeper
from skerry.vm import shelf, template
from skerry.vm.hardware import Hardware

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[str]:
    """A root with two templates of nothing, one of which has lost its keeper."""
    root = str(tmp_path)
    facts = shelf.facts_of(Hardware("/boot/vmlinux", "/boot/initrd"))
    null = os.open("/dev/null", os.O_RDONLY)
    for key in ("aaaa", "bbbb"):
        place = shelf.Place(root, key)
        os.close(shelf.open_directory(place))
        keeper.keep(
            [(null, "memory"), (null, "state")],
            lambda pid, start, place=place: shelf.write(place, {**facts, "pid": pid, "start": start}),
        )
    os.close(null)
    lost = shelf.read(shelf.Place(root, "bbbb"))
    keeper.end(lost["pid"], lost["start"])
    yield root
    for key in shelf.keys(root):
        template.destroy(root, key)


def test_list(skerry, root: str) -> None:
    code, out, err = skerry("--root", root, "template", "list")
    rows = [line.split() for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert rows[0] == ["KEY", "PROFILE", "MB", "CPUS", "ACCELERATOR", "PID", "KERNEL"]
    assert rows[1][:5] == ["aaaa", "microvm", "256", "1", "tcg"] and rows[1][6] == "/boot/vmlinux"
    assert rows[2][5] == "gone"
    assert os.readlink(f"/proc/{rows[1][5]}/exe").startswith("/memfd:skerry-init")
    assert skerry("--root", root, "template", "list", "-q")[1] == "aaaa\nbbbb\n"
    document = json.loads(skerry("--root", root, "template", "list", "-f", "json")[1])
    assert [(row["key"], row["alive"]) for row in document] == [("aaaa", True), ("bbbb", False)]


def test_destroy(skerry, root: str) -> None:
    facts = shelf.read(shelf.Place(root, "aaaa"))
    assert skerry("--root", root, "template", "destroy", "aaaa")[:2] == (0, "aaaa\n")
    assert not shelf.is_alive(facts) and shelf.keys(root) == ["bbbb"]
    code, _, err = skerry("--root", root, "template", "destroy", "aaaa")
    assert code == 1 and "ID 'aaaa' was not found" in err
    assert skerry("--root", root, "template", "destroy", "--all")[:2] == (0, "bbbb\n")
    assert skerry("--root", root, "template", "list", "-q") == (0, "", "")


@pytest.mark.parametrize("words", [["list", "x"], ["destroy"], ["destroy", "--all", "x"], ["make"]])
def test_wrong_words(skerry, root: str, words: list[str]) -> None:
    code, _, err = skerry("--root", root, "template", *words)
    assert code == 1 and "list takes no key" in err


@pytest.mark.parametrize("key", ["..", "../x", "a/b", "."])
def test_a_key_is_no_path(skerry, root: str, key: str) -> None:
    (Path(root) / "x").mkdir()
    assert skerry("--root", root, "template", "destroy", key)[0] == 1
    assert (Path(root) / "x").is_dir() and shelf.keys(root) == ["aaaa", "bbbb"]
