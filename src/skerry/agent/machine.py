"""The machine that the agent is pid 1 of: its mounts, modules, devices, clock and end.

Runs in: the guest.   Imports: fcntl, posix, struct, select, time; linux.
Source:  Documentation/filesystems/ramfs-rootfs-initramfs.rst and admin-guide/cgroup-v2.rst of the kernel;
         random(4) for RNDADDENTROPY; docs/vm.md "Boot".
Never:   serves a request.
"""

import _socket
import fcntl
import posix
import select
import struct
import time

from skerry.errors import Error, KernelError
from skerry.linux import cgroupfs, libc

_MODULES = "/usr/lib/skerry/modules"
_PORT_NAME = b"agent"
_PORTS = "/sys/class/virtio-ports"
_PORT_WAIT_S = 60
_NAP_MS = 2

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_MOVE = 2, 4, 8, 4096, 8192
_PLAIN = MS_NOSUID | MS_NODEV | MS_NOEXEC
# (kind, mount point, flags, data); each needs the one before
_MOUNTS = (
    ("proc", "/proc", _PLAIN, ""),
    ("sysfs", "/sys", _PLAIN, ""),
    ("devtmpfs", "/dev", MS_NOSUID, "mode=0755"),
    # Storages lie there, device nodes among them, and a bind mount has the flags of what it binds.
    ("tmpfs", "/run", 0, "mode=0755"),
    ("cgroup2", "/sys/fs/cgroup", _PLAIN, ""),
)
_CGROUP = "/sys/fs/cgroup"

# linux/random.h
_RNDADDENTROPY, _RNDRESEEDCRNG = 0x40085203, 0x5207
# linux/sockios.h and if.h
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


class Machine:
    """What the agent does to the machine itself; a test has another."""

    __slots__ = ()

    def seed(self, entropy: bytes) -> None:
        """Make randomness this machine's own: clones of a template begin with the same state."""
        fd = posix.open("/dev/urandom", posix.O_WRONLY | posix.O_CLOEXEC)
        try:
            head = struct.pack("ii", len(entropy) * 8, len(entropy))
            fcntl.ioctl(fd, _RNDADDENTROPY, head + entropy)
            fcntl.ioctl(fd, _RNDRESEEDCRNG)
        except OSError as error:
            raise KernelError("seed", "the random number generator", error.errno or 0) from error
        finally:
            posix.close(fd)

    def set_clock(self, time_ns: int) -> None:
        time.clock_settime_ns(time.CLOCK_REALTIME, time_ns)

    def set_hostname(self, name: str) -> None:
        try:
            _socket.sethostname(name)
        except OSError as error:
            raise KernelError("set", f"the host name {name}", error.errno or 0) from error

    def end(self) -> None:
        """Power off; does not return."""
        posix.sync()
        try:
            libc.reboot(libc.POWER_OFF)
        except Error:
            # Without ACPI there is no such thing; QEMU takes a restart for the end (-no-reboot).
            libc.reboot(libc.RESTART)


def prepare() -> None:
    """Make of the initramfs a system in which containers can be made."""
    _leave_rootfs()
    for kind, point, flags, data in _MOUNTS:
        libc.mount(kind, point, kind, flags, data)
    _open_stdio()
    _load_modules()
    _delegate()
    bring_up("lo")


def say(text: str) -> None:
    """A line on the guest's console, by way of the kernel's log; nobody may be there to read it."""
    try:
        fd = posix.open("/dev/kmsg", posix.O_WRONLY | posix.O_CLOEXEC)
    except OSError:
        return
    try:
        posix.write(fd, f"<3>skerry: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass
    finally:
        posix.close(fd)


def _leave_rootfs() -> None:
    """Put a mount over the root that containers can pivot away from.

    The kernel's own rootfs has no parent mount, so pivot_root(2) refuses to leave it.
    """
    libc.mount("/", "/run", "", MS_BIND)
    posix.chdir("/run")
    libc.mount("/run", "/", "", MS_MOVE)
    posix.chroot(".")
    posix.chdir("/")


def _open_stdio() -> None:
    """0 to 2 are /dev/null: what is opened later must not get these numbers, and nobody reads them."""
    null = posix.open("/dev/null", posix.O_RDWR)
    for fd in (0, 1, 2):
        if fd != null:
            posix.dup2(null, fd)
    if null > 2:
        posix.close(null)


def _load_modules() -> None:
    """In the order of their names. What a machine lacks the hardware for stays unloaded."""
    for name in sorted(posix.listdir(_MODULES)):
        fd = posix.open(f"{_MODULES}/{name}", posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            libc.load_module(fd, name)
        except KernelError as error:
            say(str(error))
        finally:
            posix.close(fd)


def _delegate() -> None:
    """Every controller for the cgroups of containers."""
    for name in cgroupfs.read(f"{_CGROUP}/cgroup.controllers").split():
        cgroupfs.write(f"{_CGROUP}/cgroup.subtree_control", f"+{name}")


def bring_up(name: str) -> None:
    """Errors  KernelError."""
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        request = fcntl.ioctl(
            sock.fileno(), _SIOCGIFFLAGS, struct.pack("16sH14x", name.encode(), 0)
        )
        flags = struct.unpack_from("H", request, 16)[0]
        fcntl.ioctl(
            sock.fileno(), _SIOCSIFFLAGS, struct.pack("16sH14x", name.encode(), flags | _IFF_UP)
        )
    except OSError as error:
        raise KernelError("bring up", name, error.errno or 0) from error
    finally:
        sock.close()


def open_port() -> int:
    """The serial port that is the link to the host.

    Errors  Error when it does not come.
    Owns    the caller closes it.

    The kernel shows a port before it can be opened: ENXIO means "not yet".
    """
    nap = select.poll()
    deadline = time.monotonic() + _PORT_WAIT_S
    while time.monotonic() < deadline:
        name = _find_port()
        if name:
            try:
                return posix.open(f"/dev/{name}", posix.O_RDWR | posix.O_CLOEXEC)
            except OSError:
                pass
        nap.poll(_NAP_MS)
    raise Error(f"cannot open the port {_PORT_NAME.decode()}: it did not appear")


def _find_port() -> str:
    try:
        names = posix.listdir(_PORTS)
    except FileNotFoundError:
        return ""
    for name in names:
        try:
            if cgroupfs.read_bytes(f"{_PORTS}/{name}/name").strip() == _PORT_NAME:
                return name
        except KernelError:
            continue  # its name has not arrived yet
    return ""
