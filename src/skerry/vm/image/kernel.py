"""The guest's kernel: finds one that is fit, and takes the uncompressed program out of its file.

Runs in: skerry image build.   Imports: glob, os, re, struct, subprocess; errors, vm.image.elf.
Source:  Documentation/arch/x86/boot.rst of the kernel: setup_sects, payload_offset, payload_length.
Never:   downloads or builds one.

QEMU enters an ELF kernel directly (PVH), which is quicker than having the guest unpack a bzImage at every boot.
"""

import glob
import os
import re
import struct
import subprocess

from skerry.errors import Error, KernelError
from skerry.vm.image import elf

PATTERN = "/boot/vmlinuz*"
PACKAGE = "install the package linux-image-cloud-amd64, or name a kernel with --kernel"

_SETUP_SECTORS, _MAGIC_AT, _PAYLOAD_AT = 0x1F1, 0x202, 0x248
_VERSION_AT = 0x20E
_SECTOR = 512
# first bytes -> (name, program that unpacks it from stdin to stdout, its package); None: Python itself can
_COMPRESSED: "dict[bytes, tuple[str, list[str] | None, str]]" = {
    b"\x1f\x8b": ("gzip", None, ""),
    b"BZh": ("bzip2", None, ""),
    b"\xfd7zXZ\x00": ("xz", None, ""),
    b"\x5d\x00\x00": ("lzma", None, ""),
    b"\x28\xb5\x2f\xfd": ("zstd", ["zstd", "-dc"], "zstd"),
    b"\x02\x21\x4c\x18": ("lz4", ["lz4", "-dc"], "lz4"),
}
_SIZE_BYTES = 4  # the unpacked size, which the kernel's build writes after the payload


class Kernel:
    """A kernel's file.

    path, release   release names its directory below /lib/modules
    vmlinux         the program
    """

    __slots__ = ("path", "release", "vmlinux")

    def __init__(self, path: str) -> None:
        """Errors  Error for a file that QEMU cannot enter."""
        self.path = path
        data = read(path)
        self.release = release_of(path, data)
        self.vmlinux = data if data.startswith(elf.MAGIC) else _unpack(data, path)
        if not elf.Elf(self.vmlinux, path).can_start_by_pvh():
            raise Error(
                f"cannot use the kernel {path}: it was built without CONFIG_PVH", hint=PACKAGE
            )


def find() -> str:
    """The newest kernel of this machine that has its modules beside it, cloud kernels first: they are smaller.

    Errors  Error naming the package to install.
    """
    found = []
    for path in glob.glob(PATTERN):
        release = os.path.basename(path).partition("-")[2]
        if os.path.isfile(f"/lib/modules/{release}/modules.dep"):
            found.append(("cloud" in release, _version_key(release), path))
    if not found:
        raise Error("cannot find a kernel for the guest in /boot with its modules", hint=PACKAGE)
    return max(found)[2]


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise KernelError("read", path, error.errno or 0, hint=PACKAGE) from error


def release_of(path: str, data: bytes) -> str:
    """`6.1.0-50-cloud-amd64`: from the header of a bzImage, else from the version text of a vmlinux.

    Errors  Error where there is neither.
    """
    if data[_MAGIC_AT : _MAGIC_AT + 4] == b"HdrS":
        (at,) = struct.unpack_from("<H", data, _VERSION_AT)
        start = at + _SECTOR
        return data[start : data.index(b" ", start)].decode("ascii", "replace")
    found = re.search(rb"Linux version ([0-9][!-~]*) \(", data)
    if found is None:
        raise Error(f"cannot use {path}: it is not a kernel for x86", hint=PACKAGE)
    return found[1].decode("ascii", "replace")


def _version_key(release: str) -> "list[int]":
    return [int(number) for number in re.findall(r"\d+", release)]


def _unpack(data: bytes, path: str) -> bytes:
    """The program in a bzImage."""
    if data[_MAGIC_AT : _MAGIC_AT + 4] != b"HdrS":
        raise Error(f"cannot use {path}: it is neither a bzImage nor a vmlinux", hint=PACKAGE)
    offset, length = struct.unpack_from("<II", data, _PAYLOAD_AT)
    start = ((data[_SETUP_SECTORS] or 4) + 1) * _SECTOR + offset
    payload = data[start : start + length]
    for magic, (name, program, package) in _COMPRESSED.items():
        if payload.startswith(magic):
            unpacked = _run(program, payload, package) if program else _decompress(name, payload)
            if not unpacked.startswith(elf.MAGIC):
                raise Error(f"cannot use {path}: its {name} payload holds no ELF file")
            return unpacked
    raise Error(f"cannot use {path}: its payload is compressed in an unknown way")


def _decompress(name: str, payload: bytes) -> bytes:
    import bz2
    import lzma
    import zlib

    try:
        if name == "gzip":
            return zlib.decompressobj(31).decompress(payload)
        if name == "bzip2":
            return bz2.BZ2Decompressor().decompress(payload)
        return lzma.LZMADecompressor().decompress(payload)
    except (OSError, zlib.error, lzma.LZMAError) as error:
        raise Error(f"cannot unpack the kernel: {error}") from error


def _run(command: "list[str]", payload: bytes, package: str) -> bytes:
    try:
        done = subprocess.run(
            command, input=payload[:-_SIZE_BYTES], capture_output=True, check=False
        )
    except FileNotFoundError:
        raise Error(
            f"cannot unpack the kernel: the program {command[0]} is missing",
            hint=f"install the package {package}",
        ) from None
    # Trailing bytes are no error here: what counts is that an ELF file came out.
    return done.stdout
