"""linux/mountinfo.py: the kernel's lines, its escapes, rubbish."""

import os

import pytest

from skerry.linux import mountinfo


def test_a_line_with_every_field():
    line = (
        b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue"
    )
    mount = mountinfo.Mount(line)
    assert (mount.id, mount.parent, mount.device) == (36, 35, (98, 0))
    assert (mount.root, mount.point, mount.kind) == ("/mnt1", "/mnt2", "ext3")
    assert (mount.options, mount.super_options) == (["rw", "noatime"], ["rw", "errors=continue"])
    assert (mount.propagation, mount.source) == (["master:1", "shared:7"], "/dev/root")


@pytest.mark.parametrize(
    "field, text",
    [
        (rb"/a\040b", "/a b"),
        (rb"/a\011b\012c", "/a\tb\nc"),
        (rb"/back\134slash\134134", "/back\\slash\\134"),
        (rb"\043hash", "#hash"),
        (b"/\xff", "/\udcff"),
    ],
)
def test_octal_escapes(field, text):
    assert mountinfo.Mount(b"1 2 0:3 / " + field + b" rw - tmpfs tmpfs rw").point == text


@pytest.mark.parametrize("line", [b"", b"1 2", b"x y 0:1 / / rw - a b c", b"1 2 0 / / rw - a b c"])
def test_rubbish_is_an_error(line):
    with pytest.raises((ValueError, IndexError)):
        mountinfo.Mount(line)


def test_the_filter_looks_at_the_type_alone(tmp_path):
    table = tmp_path / "mountinfo"
    table.write_bytes(
        b"1 0 0:1 / / rw - ext4 /dev/a rw\n"
        b"2 1 0:2 / /x rw - cgroup2 cgroup2 rw\n"
        b"3 1 0:3 / /y rw - cgroup cgroup rw,cpu\n"
        b"4 1 0:4 / /z rw - fuse cgroup rw\n"
    )
    assert [m.id for m in mountinfo.read(str(table), kinds=("cgroup", "cgroup2"))] == [2, 3]
    assert [m.id for m in mountinfo.read(str(table))] == [1, 2, 3, 4]


def test_our_own_table_holds_the_root():
    root = [mount for mount in mountinfo.read() if mount.point == "/"][-1]
    device = os.stat("/").st_dev
    assert root.device == (os.major(device), os.minor(device))
