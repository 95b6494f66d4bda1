"""QEMU's command line, a small class for each part of the machine that prints its own arguments.

Runs in: vmshim, template builder; pure.   Imports: nothing.
Source:  qemu(1) of QEMU 7.2; docs/vm.md "The machine". tests/golden holds whole command lines.
Never:   opens anything, or names a path of the host but the program's: what QEMU uses comes as an fd.

A machine has two profiles. microvm is small and quick, and takes nothing but disks while it runs; q35 has a PCI bridge
that takes interfaces and shares as well. Everything else is the same, on another bus.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    class Part(Protocol):
        def arguments(self) -> "list[str]": ...

SMALL, Q35 = "microvm", "q35"
PROFILES = (SMALL, Q35)

AGENT_PORT = "agent"
SCSI, BRIDGE = "scsi0", "bridge0"
# What QEMU could do with the host if a guest broke out of it: start programs, change its user, its priority.
_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
# Measured (docs/vm.md "Boot"): self-tests of ciphers are the largest part of a boot; no clock is calibrated that the
# host vouches for; one serial port, and nobody looks for three more. After a panic a microvm's kernel would jump
# into the firmware, which in a clone finds nothing to boot and halts for ever; a triple fault ends QEMU.
_KERNEL_WORDS = (
    "panic=-1", "reboot=t", "quiet", "console=ttyS0", "8250.nr_uarts=1", "tsc=reliable", "no_timer_check",
    "cryptomgr.notests", "rcupdate.rcu_expedited=1", "swiotlb=noforce", "random.trust_cpu=on",
)  # fmt: skip


def model(profile: str, name: str) -> str:
    """A virtio device as it is called on the bus of the profile."""
    return f"{name}-device" if profile == SMALL else f"{name}-pci"


class Board:
    """The machine itself, its memory behind it."""

    __slots__ = ("profile",)

    def __init__(self, profile: str) -> None:
        self.profile = profile

    def arguments(self) -> "list[str]":
        kind = {
            SMALL: "microvm,x-option-roms=off,isa-serial=on",
            Q35: "q35,smbus=off,sata=off,usb=off,vmport=off",
        }[self.profile]
        return [
            "-machine", f"{kind},memory-backend=mem",
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        ]  # fmt: skip


class Processor:
    __slots__ = ("accelerator", "count")

    def __init__(self, accelerator: str, count: int) -> None:
        self.accelerator, self.count = accelerator, count

    def arguments(self) -> "list[str]":
        kind = "host" if self.accelerator == "kvm" else "max"
        return ["-accel", self.accelerator, "-cpu", kind, "-smp", str(self.count)]


class Memory:
    """shared: writes go to the file (a template's, or a machine's own); else they stay in the process (a clone)."""

    __slots__ = ("fd", "mib", "shared")

    def __init__(self, fd: int, mib: int, *, shared: bool) -> None:
        self.fd, self.mib, self.shared = fd, mib, shared

    def arguments(self) -> "list[str]":
        path, share = f"/proc/self/fd/{self.fd}", "on" if self.shared else "off"
        backend = f"memory-backend-file,id=mem,size={self.mib}M,mem-path={path},share={share}"
        return ["-m", f"{self.mib}M", "-object", backend]


class Kernel:
    """khz: the rate of the time stamp counter; 0 lets the guest find out, which hangs most small machines under TCG."""

    __slots__ = ("initrd_fd", "kernel_fd", "khz", "words")

    def __init__(self, kernel_fd: int, initrd_fd: int, *, khz: int, words: "Sequence[str]") -> None:
        self.kernel_fd, self.initrd_fd, self.khz, self.words = kernel_fd, initrd_fd, khz, words

    def arguments(self) -> "list[str]":
        return [
            "-kernel", f"/proc/self/fd/{self.kernel_fd}",
            "-initrd", f"/proc/self/fd/{self.initrd_fd}",
            "-append", command_line(self.khz, self.words),
        ]  # fmt: skip


def command_line(khz: int, words: "Sequence[str]") -> str:
    """The kernel's; later words win over ours."""
    clock = [f"tsc_early_khz={khz}"] if khz else []
    return " ".join([*_KERNEL_WORDS, *clock, *words])


class Monitor:
    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def arguments(self) -> "list[str]":
        return ["-chardev", f"socket,id=qmp,fd={self.fd}", "-mon", "chardev=qmp,mode=control"]


class Console:
    """A serial port, for it speaks from the kernel's first line on; virtio's would need a module first."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def arguments(self) -> "list[str]":
        return ["-chardev", f"socket,id=console,fd={self.fd}", "-serial", "chardev:console"]


class Link:
    """The port that the agent opens."""

    __slots__ = ("fd", "profile")

    def __init__(self, fd: int, profile: str) -> None:
        self.fd, self.profile = fd, profile

    def arguments(self) -> "list[str]":
        return [
            "-chardev", f"socket,id=link,fd={self.fd}",
            "-device", f"{model(self.profile, 'virtio-serial')},max_ports=2",
            "-device", f"virtserialport,chardev=link,name={AGENT_PORT}",
        ]  # fmt: skip


class Scsi:
    """Where disks are plugged in."""

    __slots__ = ("profile",)

    def __init__(self, profile: str) -> None:
        self.profile = profile

    def arguments(self) -> "list[str]":
        return ["-device", f"{model(self.profile, 'virtio-scsi')},id={SCSI},num_queues=1"]


class Interface:
    """A network interface that is there from the start; the guest gives it its name and address."""

    __slots__ = ("mac", "number", "profile", "tap_fd")

    def __init__(self, number: int, tap_fd: int, mac: str, profile: str) -> None:
        self.number, self.tap_fd, self.mac, self.profile = number, tap_fd, mac, profile

    def arguments(self) -> "list[str]":
        name = f"net{self.number}"
        return [
            "-netdev", f"tap,id={name},fd={self.tap_fd}",
            "-device", f"{model(self.profile, 'virtio-net')},id={name}dev,netdev={name},mac={self.mac}",
        ]  # fmt: skip


class Bridge:
    """q35: a bus whose slots take what is plugged in while the guest runs."""

    __slots__ = ()

    def arguments(self) -> "list[str]":
        return ["-device", f"pcie-pci-bridge,id={BRIDGE}"]


class Sandbox:
    """QEMU's own filter of system calls."""

    __slots__ = ()

    def arguments(self) -> "list[str]":
        return ["-sandbox", _SANDBOX]


class Incoming:
    """Wait for the state of a template."""

    __slots__ = ()

    def arguments(self) -> "list[str]":
        return ["-incoming", "defer"]
