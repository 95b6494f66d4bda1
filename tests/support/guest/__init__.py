"""Small guests for tests: Debian's cloud kernel, its modules, busybox, and init.c or evil.c.

What is built lies in build/guest of the checkout and is built anew when its sources are newer.
"""

import os
import shutil
import struct
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
TOP = HERE.parents[2]
BUILT = TOP / "build/guest"
MODULES = (
    "virtio_mmio", "virtio_pci", "virtio_console", "virtio_scsi", "sd_mod", "erofs", "virtio_net", "virtiofs", "overlay",
)  # fmt: skip
APPLETS = (
    "sh", "cat", "echo", "ls", "mount", "umount", "dd", "sha256sum", "ip", "ping", "ping6", "sleep", "mkdir", "touch",
    "hexdump", "mdev", "stat", "true", "rm", "grep", "od", "test", "head", "wc", "ln", "find", "readlink", "sync", "blockdev",
)  # fmt: skip
_LZ4_PAYLOAD = b"\x02\x21\x4c\x18"


def missing() -> str:
    """Say what this machine lacks for it, "" if nothing."""
    if not kernels():
        return "no kernel /boot/vmlinuz-*-cloud-amd64 (package linux-image-cloud-amd64)"
    for program in ("lz4", "gcc", "busybox"):
        if shutil.which(program) is None:
            return f"needs {program}"
    return ""


def kernels() -> list[Path]:
    return sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"))


def build(program: str = "init") -> tuple[str, str]:
    """Build what is not there; `program` is its pid 1.

    Result  (kernel, initramfs).
    """
    BUILT.mkdir(parents=True, exist_ok=True)
    packed = kernels()[-1]
    kernel, image = BUILT / "vmlinux", BUILT / f"initramfs-{program}"
    if not kernel.exists():
        _write(kernel, _unpack(packed.read_bytes()))
    sources = max(path.stat().st_mtime for path in HERE.iterdir())
    if not image.exists() or image.stat().st_mtime < sources:
        _write(image, _initramfs(packed.name.removeprefix("vmlinuz-"), program))
    return str(kernel), str(image)


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.rename(path)


def _unpack(image: bytes) -> bytes:
    """Take the ELF file out of a bzImage (Documentation/arch/x86/boot.rst: setup_sects, payload_offset)."""
    begin = ((image[0x1F1] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", image, 0x248)
    payload = image[begin + offset : begin + offset + length]
    assert payload.startswith(_LZ4_PAYLOAD), "not a kernel packed with lz4"
    return subprocess.run(["lz4", "-dqc"], input=payload, capture_output=True, check=False).stdout


def _initramfs(release: str, program: str) -> bytes:
    init = BUILT / program
    subprocess.run(["gcc", "-Os", "-static", "-Wall", "-o", init, HERE / f"{program}.c"], check=True)
    files: list[tuple[str, int, bytes]] = [(name, 0o040755, b"") for name in ("bin", "dev", "proc", "sys", "mnt", "modules")]
    files.append(("dev/console", 0o020600, b""))
    files.append(("init", 0o100755, init.read_bytes()))
    files.append(("bin/busybox", 0o100755, Path(shutil.which("busybox") or "").read_bytes()))
    files += [(f"bin/{name}", 0o120777, b"busybox") for name in APPLETS]
    for number, module in enumerate(_modules(release)):
        files.append((f"modules/{number:02d}-{module.name}", 0o100644, module.read_bytes()))
    return b"".join(_entry(number, *row) for number, row in enumerate([*files, ("TRAILER!!!", 0, b"")], 1))


def _modules(release: str) -> list[Path]:
    found: dict[Path, None] = {}
    for name in MODULES:
        command = ["/usr/sbin/modprobe", "-S", release, "--show-depends", name]
        for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
            path = Path(line.split()[1])
            if "crypto" not in path.parts:  # the processor's own crc32c: the generic one is built in
                found[path] = None
    return list(found)


def _entry(inode: int, name: str, mode: int, data: bytes) -> bytes:
    """One file of a cpio archive (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    device = (5, 1) if mode & 0o170000 == 0o020000 else (0, 0)
    raw = name.encode() + b"\0"
    fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(raw), 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + raw
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
