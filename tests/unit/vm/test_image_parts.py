"""Parts of the guest image: archive, ELF, libraries, kernel, modules, cache."""

import gzip
import io
import lzma
import os
import shutil
import struct
import subprocess
import sys

import pytest

from skerry.errors import Error
from skerry.vm.image import cache, cpio, elf, kernel, modules
from skerry.vm.image.libraries import Libraries


def archive(tree: cpio.Tree) -> bytes:
    out = io.BytesIO()
    assert tree.write(out) == len(out.getvalue())
    return out.getvalue()


def sample() -> cpio.Tree:
    tree = cpio.Tree()
    tree.file("/usr/bin/program", b"#!/bin/sh\n", executable=True)
    tree.file("/etc/name", b"abc")
    tree.link("/bin", "usr/bin")
    tree.directory("/tmp", 0o1777)
    tree.character_device("/dev/console", 5, 1, 0o600)
    return tree


def test_archive_is_what_cpio_reads(tmp_path):
    """The oracle is busybox."""
    busybox = shutil.which("busybox")
    if busybox is None or os.geteuid():
        pytest.skip("needs busybox and root")
    subprocess.run([busybox, "cpio", "-idm"], input=archive(sample()), cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "usr/bin/program").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "usr/bin/program").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "etc/name").read_bytes() == b"abc"
    assert os.readlink(tmp_path / "bin") == "usr/bin"
    assert (tmp_path / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert (tmp_path / "dev/console").stat().st_rdev == os.makedev(5, 1)


def test_archive_is_the_same_whatever_the_order():
    other = cpio.Tree()
    other.character_device("/dev/console", 5, 1, 0o600)
    other.directory("/tmp", 0o1777)
    other.link("/bin", "usr/bin")
    other.file("/etc/name", b"abc")
    other.file("/usr/bin/program", b"#!/bin/sh\n", executable=True)
    assert archive(sample()) == archive(other)


def test_a_directory_comes_before_what_is_in_it():
    paths = sample().paths()
    assert paths.index("/usr") < paths.index("/usr/bin") < paths.index("/usr/bin/program")


def test_elf_of_this_interpreter():
    """What ldd finds is found, without running anything."""
    program = os.path.realpath(sys.executable)
    found = Libraries()
    found.add(program)
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    wanted = {line.split(" => ")[1].split()[0] for line in said.splitlines() if " => /" in line}
    assert wanted <= set(found.files)


def test_library_that_is_not_here():
    with pytest.raises(Error, match="cannot find the library libnothing.so.9") as caught:
        Libraries().add_by_name("libnothing.so.9", package="libnothing9")
    assert caught.value.hint == "install the package libnothing9"


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF\1\1" + bytes(100), b"#!/bin/sh\n"])
def test_what_is_no_elf(data):
    with pytest.raises(Error, match="is not a 64-bit"):
        elf.Elf(data, "x")


def test_damaged_elf():
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1", 2, 62, 1, 0, 1 << 40, 0, 0, 64, 56, 3, 0, 0, 0)
    with pytest.raises(Error, match="damaged"):
        elf.Elf(header, "x")


def vmlinux(note: bytes) -> bytes:
    """An ELF file with one segment of notes."""
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(note), len(note), 4)
    return header + segment + note + b"\0Linux version 9.9.9-test (x@y)\0"


XEN = struct.pack("<III", 4, 8, 18) + b"Xen\0" + bytes(8)
OTHER = struct.pack("<III", 4, 8, 1) + b"GNU\0" + bytes(8)


def bzimage(payload: bytes) -> bytes:
    head = bytearray(5 * 512)
    head[0x1F1] = 4
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x20E, 0x400 - 512)
    head[0x400 : 0x400 + 12] = b"6.6.6-test x"
    struct.pack_into("<II", head, 0x248, 16, len(payload))
    return bytes(head) + bytes(16) + payload


def test_notes():
    assert elf.Elf(vmlinux(OTHER + XEN), "x").can_start_by_pvh()
    assert not elf.Elf(vmlinux(OTHER), "x").can_start_by_pvh()


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, lambda data: data], ids=["gzip", "xz", "plain"])
def test_kernel_is_unpacked(tmp_path, pack):
    program = vmlinux(XEN)
    packed = pack(program)
    path = tmp_path / "vmlinuz-6.6.6-test"
    path.write_bytes(program if packed == program else bzimage(packed + b"size"))
    found = kernel.Kernel(str(path))
    assert found.vmlinux == program
    assert found.release == ("9.9.9-test" if packed == program else "6.6.6-test")


@pytest.mark.parametrize("tool", ["lz4", "zstd"])
def test_kernel_is_unpacked_by_a_program(tmp_path, tool):
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}")
    program = vmlinux(XEN)
    legacy = ["-l"] if tool == "lz4" else []
    packed = subprocess.run([tool, *legacy, "-c"], input=program, capture_output=True, check=True).stdout
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage(packed + struct.pack("<I", len(program))))
    assert kernel.Kernel(str(path)).vmlinux == program


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a kernel"),
        (b"x" * 4096, "is not a kernel"),
        (vmlinux(OTHER), "without CONFIG_PVH"),
        (bzimage(gzip.compress(b"no elf")), "holds no ELF"),
        (bzimage(b"????????"), "compressed in an unknown way"),
    ],
    ids=["empty", "text", "no PVH", "no ELF", "unknown"],
)
def test_kernel_that_will_not_do(tmp_path, content, words):
    """One line, and what to install."""
    path = tmp_path / "vmlinuz"
    path.write_bytes(content)
    with pytest.raises(Error, match=words):
        kernel.Kernel(str(path))


def test_kernel_that_is_not_there():
    with pytest.raises(Error, match="ENOENT") as caught:
        kernel.Kernel("/no/such/kernel")
    assert "linux-image-cloud-amd64" in caught.value.hint


@pytest.fixture
def tree_of_modules(tmp_path, monkeypatch):
    """A kernel's modules: some are built in, some need others."""
    monkeypatch.setattr(modules, "ROOT", str(tmp_path))
    root = tmp_path / "6.6.6"
    dependencies = {
        "a/virtio_scsi.ko": "a/virtio_ring.ko a/virtio.ko a/scsi_mod.ko",
        "a/virtio_ring.ko": "a/virtio.ko",
        "a/virtio.ko": "",
        "a/scsi_mod.ko": "",
        "a/sd_mod.ko": "a/scsi_mod.ko",
        "a/erofs.ko.xz": "",
        "a/overlay.ko": "",
        "a/virtio_net.ko": "a/virtio.ko",
        "a/unwanted.ko": "",
    }
    for path in dependencies:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(lzma.compress(b"erofs") if path.endswith(".xz") else path.encode())
    (root / "modules.dep").write_text("".join(f"{name}: {needed}\n" for name, needed in dependencies.items()))
    (root / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\nkernel/drivers/char/virtio_console.ko\n")
    return root


def test_modules_in_an_order_that_loads(tree_of_modules):
    if shutil.which("xz") is None:
        pytest.skip("needs xz")
    found = modules.select("6.6.6")
    names = [name for name, _ in found]
    assert names.index("virtio") < names.index("virtio_ring") < names.index("virtio_scsi")
    assert names.index("scsi_mod") < names.index("sd_mod")
    assert len(names) == len(set(names))
    assert "unwanted" not in names
    assert dict(found)["erofs"] == b"erofs"


def test_module_that_is_missing(tree_of_modules):
    text = (tree_of_modules / "modules.dep").read_text().replace("a/overlay.ko:", "a/other.ko:")
    (tree_of_modules / "modules.dep").write_text(text)
    with pytest.raises(Error, match="it has no overlay, needed for root file systems"):
        modules.select("6.6.6")


def test_modules_that_are_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(modules, "ROOT", str(tmp_path))
    with pytest.raises(Error, match=r"modules\.dep"):
        modules.select("9.9.9")


def put(place, content: bytes, stamp: str) -> cache.Image:
    with cache.Writer(str(place)) as writer:
        for name in (cache.KERNEL, cache.INITRAMFS):
            with open(writer.path(name), "wb") as file:
                file.write(content)
        return writer.finish({"stamp": stamp})


def test_images_by_their_content(tmp_path):
    first, second = put(tmp_path, b"one", "s1"), put(tmp_path, b"two", "s2")
    assert {image.key for image in cache.images(str(tmp_path))} == {first.key, second.key}
    again = put(tmp_path, b"one", "s3")
    assert again.key == first.key
    assert len(cache.images(str(tmp_path))) == 2
    found = cache.find(str(tmp_path), "s3")
    assert found and found.key == first.key
    assert cache.find(str(tmp_path), "s1") is None


def test_build_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), cache.Writer(str(tmp_path)) as writer:
        open(writer.path(cache.KERNEL), "wb").close()
        raise RuntimeError
    assert [name for name in os.listdir(tmp_path) if name != "@lock"] == []


def test_what_a_killed_build_left_is_swept(tmp_path):
    (tmp_path / "@0123").mkdir()
    (tmp_path / "@0123/vmlinux").touch()
    put(tmp_path, b"one", "s1")
    assert not (tmp_path / "@0123").exists()


def test_half_an_image_is_none(tmp_path):
    image = put(tmp_path, b"one", "s1")
    os.unlink(image.initramfs)
    assert cache.images(str(tmp_path)) == ()
    assert put(tmp_path, b"one", "s1").key == image.key
    assert len(cache.images(str(tmp_path))) == 1


def test_cache_that_others_could_write(tmp_path):
    """What lies there is started as root."""
    put(tmp_path, b"one", "s1")
    os.chmod(tmp_path, 0o777)
    with pytest.raises(Error, match="others could write it"):
        cache.images(str(tmp_path))


def test_empty_cache(tmp_path):
    assert cache.images(str(tmp_path / "nothing")) == ()
