"""What the launcher asks of the zygote."""

import os

import pytest

from skerry.shims.task import zygote


def test_errand():
    data = b"name\x004\0-id\0x\0\0start\0A=1=2\0B=\0"
    errand = zygote.Errand(data)
    assert (errand.name, errand.words, errand.id) == ("name", ["-id", "x", "", "start"], "x")
    assert dict((name, value) for name, _, value in errand.environment) == {b"A": b"1=2", b"B": b""}


def test_errand_without_an_id():
    assert zygote.Errand(b"name\x001\0start\0").id == ""
    assert zygote.Errand(b"name\x001\0-id\0").id == ""


@pytest.mark.parametrize(
    "data", [b"", b"name\0", b"name\0x\0", b"name\x002\0one\0", b"\xff\x000\0"]
)
def test_what_is_no_errand(data):
    with pytest.raises(ValueError):
        zygote.Errand(data)


def test_place():
    """One for each containerd and installation, by a checksum that is known (FNV-1a, 64 bits)."""
    assert zygote.checksum(b"") == 0xCBF29CE484222325
    assert zygote.checksum(b"foobar") == 0x85944171F73967E8
    one, two = (zygote.place(f"/run/{name}.sock", "").path for name in "ab")
    assert one != two and one.startswith("/run/containerd/s/skerry-zygote-") and len(one) == 48


def test_nature_is_what_a_child_inherits():
    here = zygote.nature(os.getpid())
    assert zygote.nature(os.getpid()) == here
    pid = os.fork()
    if pid == 0:
        os.nice(1)
        same = zygote.nature(os.getpid()) == here
        os.nice(0)
        os._exit(same)
    assert os.waitpid(pid, 0)[1] == 0
    with pytest.raises(OSError):
        zygote.nature(pid)
