"""What VM isolation needs of a host, one question after the other.

Runs in: doctor.   Imports: posix; errors, vm, late where a question needs them.
Source:  docs/vm.md.
Never:   changes the host: what is tried is tried in a namespace of its own.

Each function answers with words for what it found; an Error says what is missing.
"""

import posix

from skerry.errors import EngineError, Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FREE_BYTES = 1 << 30
_OLDEST_QEMU = 7


def config() -> str:
    from skerry.vm.settings import CONFIG_PATH, load_config

    return CONFIG_PATH if load_config() else f"no {CONFIG_PATH}, defaults apply"


def _administrator() -> "dict[str, Any]":
    from skerry.vm.settings import load_config

    section: dict[str, Any] = load_config().get("vm") or {}
    return section


def qemu() -> str:
    import subprocess

    from skerry.vm.confine import check_program
    from skerry.vm.hardware import HYPERVISOR

    path: str = _administrator().get("hypervisor") or HYPERVISOR
    check_program(path)
    done = subprocess.run(
        [path, "--version"], capture_output=True, check=False, timeout=30, stdin=subprocess.DEVNULL, env={}
    )  # fmt: skip
    words = done.stdout.decode("utf-8", "replace").split("\n")[0].split(" version ")
    number = words[-1].split(" ")[0]
    major = number.partition(".")[0]
    if done.returncode or not major.isdigit():
        raise Error(f"{path} does not say its version")
    if int(major) < _OLDEST_QEMU:
        raise Error(f"{path} is QEMU {number}")
    return f"{path}, {number}"


def kvm() -> str:
    from skerry.vm import accel

    why = accel.why_not_kvm()
    if why:
        raise Error(f"VMs are emulated, and slow: {why}")
    return accel.KVM_DEVICE


def image() -> str:
    from skerry.vm import image
    from skerry.vm.image import kernel

    settings = _administrator()
    if settings.get("kernel") and settings.get("initrd"):
        return "named in the configuration"
    images = image.list(cache=settings.get("imageCache") or "")
    return f"{len(images)} made" if images else f"can be made of {kernel.find()}"


def erofs() -> str:
    from skerry.vm import disks, programs

    return programs.find("mkfs.erofs", disks.EROFS_PROGRAMS, package="erofs-utils")


def ext4() -> str:
    from skerry import disk
    from skerry.vm import programs

    return programs.find("mkfs.ext4", disk.PROGRAMS, package="e2fsprogs")


def virtiofsd() -> str:
    from skerry.vm import programs, share

    return programs.find("virtiofsd", share.PROGRAMS, package=share.PACKAGE)


def disks_directory() -> str:
    from skerry.vm import disks, programs

    directory = path = programs.disks_directory(disks.DIRECTORY)
    while not posix.access(path, posix.F_OK):
        path = path.rpartition("/")[0] or "/"
    if not posix.access(path, posix.W_OK | posix.X_OK):
        raise Error(f"{path} cannot be written")
    flags = posix.O_TMPFILE | posix.O_RDWR | posix.O_CLOEXEC
    posix.close(posix.open(path, flags, 0o600))
    status = posix.statvfs(path)
    free = status.f_bavail * status.f_frsize
    if free < _FREE_BYTES:
        raise Error(f"{path} has {free >> 20} MB left")
    return f"{directory}, {free >> 30} GB left"


def taps() -> str:
    from skerry.vm.spare import Taps

    with Taps(1):
        return "taps can be made"


def redirects() -> str:
    """In a namespace of its own, from a tap to its loopback and back."""
    from skerry.linux import traffic
    from skerry.linux.netlink import Netlink
    from skerry.native.visit import visit
    from skerry.vm.network import make_tap

    socket, taps = visit(-1, taps=1)
    try:
        with Netlink(socket) as netlink:
            name = make_tap(taps[0])
            index = next(i for i, link in netlink.links().items() if link.name == name)
            netlink.set_link(index, up=True)
            traffic.redirect(netlink, index, index, what="a tap")
            return "traffic can be redirected"
    except StopIteration:
        raise EngineError("the tap that was made is not there") from None
    finally:
        posix.close(taps[0])
