"""A guest under QEMU for the tests of the agent: the image, a link, disks. Nothing of the host's half of a pod."""

import os
import re
import select
import socket
import subprocess
from pathlib import Path

from support.agent_client import Client, Ended

QEMU = "/usr/bin/qemu-system-x86_64"
BOOT_LIMIT_S = 90
# docs of the measured command line; under TCG without tsc_early_khz most boots of a microvm hang
APPEND = (
    "panic=-1 quiet tsc=reliable no_timer_check 8250.nr_uarts=0 cryptomgr.notests rcupdate.rcu_expedited=1 "
    "swiotlb=noforce random.trust_cpu=on tsc_early_khz={khz}"
)


def khz() -> int:
    found = re.search(r"cpu MHz\s*: ([0-9.]+)", Path("/proc/cpuinfo").read_text())
    return int(float(found[1]) * 1000) if found else 2_000_000


class Guest:
    """A running guest; use as a context. `disks` are (file, read only) of the addresses 0:0, 1:0, ..."""

    def __init__(
        self, kernel: str, initramfs: str, *, disks: list[tuple[Path, bool]] = (), memory_mib: int = 512, vcpus: int = 1,
        console: Path | None = None,
    ) -> None:
        """`console`: a file for what the guest's kernel says."""
        ours, theirs = socket.socketpair()
        append = APPEND.format(khz=khz())
        if console:
            append = append.replace("quiet", "").replace("8250.nr_uarts=0", "console=ttyS0")
        command = [
            QEMU, "-M", f"microvm,x-option-roms=off,isa-serial={'on' if console else 'off'}", "-accel", "tcg", "-cpu", "max",
            "-m", str(memory_mib), "-smp", str(vcpus), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-kernel", kernel, "-initrd", initramfs, "-append", append,
            "-chardev", f"socket,id=link,fd={theirs.fileno()}", "-device", "virtio-serial-device,max_ports=31",
            "-device", "virtserialport,chardev=link,name=agent", "-device", "virtio-scsi-device,id=scsi0",
            "-netdev", "hubport,id=n0,hubid=0", "-device", "virtio-net-device,netdev=n0,mac=02:00:00:00:00:01",
        ]  # fmt: skip
        command += ["-serial", f"file:{console}"] if console else []
        for number, (path, read_only) in enumerate(disks):
            mode = "on" if read_only else "off"
            command += ["-drive", f"file={path},if=none,id=d{number},format=raw,readonly={mode}"]
            command += ["-device", f"scsi-hd,drive=d{number},bus=scsi0.0,scsi-id={number},lun=0"]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        self.client = Client(ours)

    def __enter__(self) -> "Guest":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.sock.close()
        self.process.kill()
        self.process.wait()

    def wait_end(self, limit_s: float = 20) -> int:
        """Whether it powered off by itself."""
        pidfd = os.pidfd_open(self.process.pid)
        try:
            assert select.select([pidfd], [], [], limit_s)[0], "the guest does not power off"
        finally:
            os.close(pidfd)
        return self.process.wait()

    def has_closed(self) -> bool:
        try:
            while self.client.pump(20):
                pass
        except Ended:
            return True
        return False


def make_image(directory: Path, target: Path) -> Path:
    subprocess.run(["mkfs.erofs", "-T0", str(target), str(directory)], check=True, capture_output=True)
    return target


def make_scratch(target: Path, size_mib: int = 64) -> Path:
    with target.open("wb") as file:
        file.truncate(size_mib << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", str(target)], check=True)
    return target
