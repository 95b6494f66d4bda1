"""The guest image as a whole, and the verb that makes it."""

import json
import os
import subprocess
from pathlib import Path

from skerry.vm import image

SKERRY = Path(__file__).resolve().parents[3] / "bin/skerry"


def paths_in(initramfs: str) -> list[str]:
    with open(initramfs, "rb") as archive:
        done = subprocess.run(["busybox", "cpio", "-t"], stdin=archive, capture_output=True, check=True)
    return done.stdout.decode().splitlines()


def skerry(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run([SKERRY, *args], capture_output=True, text=True, check=False)


def test_the_same_again(built, tmp_path):
    """Reproducible: another build, in another place, gives the same bytes and so the same key."""
    again = image.build(cache=str(tmp_path))
    assert again.key == built.key
    for one, other in ((built.kernel, again.kernel), (built.initramfs, again.initramfs)):
        assert Path(one).read_bytes() == Path(other).read_bytes()


def test_what_is_in_it(built):
    names = paths_in(built.initramfs)
    assert "init" in names
    assert "usr/lib/skerry/skerry/skerry-init" in names
    assert any(name.endswith("libseccomp.so.2") for name in names)
    assert not [name for name in names if name.endswith(".py")]
    # megabytes that nobody there needs
    assert not [name for name in names if "libcrypto" in name or "/_ssl" in name or "/cli/" in name]
    assert os.stat(built.initramfs).st_size < 20_000_000
    assert built.facts["modules"].index("virtio") < built.facts["modules"].index("virtio_scsi")


def test_ensure_builds_once(tmp_path):
    said: list[str] = []
    first = image.ensure(cache=str(tmp_path), progress=said.append)
    assert said
    del said[:]
    second = image.ensure(cache=str(tmp_path), progress=said.append)
    assert (second.key, said) == (first.key, [])


def test_verb(tmp_path):
    assert skerry("image", "--image-cache", str(tmp_path), "list").stdout.split()[:2] == ["KEY", "KERNEL"]
    done = skerry("image", "--image-cache", str(tmp_path), "--format", "json", "build")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert Path(found["kernel"]).read_bytes()[:4] == b"\x7fELF"
    assert "unpacking the kernel" in done.stderr
    quiet = skerry("image", "--image-cache", str(tmp_path), "-q", "build")
    assert (quiet.stdout, quiet.stderr) == (f"{found['key']}\n", "")
    assert skerry("image", "--image-cache", str(tmp_path), "-q", "list").stdout == quiet.stdout
    row = skerry("image", "--image-cache", str(tmp_path), "list").stdout.splitlines()[1].split()
    assert row[:2] == [found["key"], found["facts"]["release"]]


def test_verb_that_cannot(tmp_path):
    """One line that says what to do, and no traceback."""
    for args, words in (
        (("build", "--kernel", "/no/such/kernel"), "linux-image-cloud-amd64"),
        (("build", "--kernel", "/bin/sh"), "is not a kernel"),
        (("burn",), 'unknown action "burn"'),
        ((), "requires exactly 1 argument"),
    ):
        done = skerry("image", "--image-cache", str(tmp_path), *args)
        assert done.returncode == 1
        assert words in done.stderr.splitlines()[-1], done.stderr
        assert "Traceback" not in done.stderr
    assert [name for name in os.listdir(tmp_path) if name != "@lock"] == []
