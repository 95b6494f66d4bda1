"""Capabilities by name.

Runs in: create, exec (hot).   Imports: errno posix.
Source:  linux/capability.h of Linux 6.18; proc(5), capabilities(7).
Never:   changes a capability; that is a plan's part.
"""

import errno
import posix

from skerry.errors import KernelError

CAPS = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_FOWNER": 3,
    "CAP_FSETID": 4,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_LINUX_IMMUTABLE": 9,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_NET_BROADCAST": 11,
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_IPC_LOCK": 14,
    "CAP_IPC_OWNER": 15,
    "CAP_SYS_MODULE": 16,
    "CAP_SYS_RAWIO": 17,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_PACCT": 20,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_BOOT": 22,
    "CAP_SYS_NICE": 23,
    "CAP_SYS_RESOURCE": 24,
    "CAP_SYS_TIME": 25,
    "CAP_SYS_TTY_CONFIG": 26,
    "CAP_MKNOD": 27,
    "CAP_LEASE": 28,
    "CAP_AUDIT_WRITE": 29,
    "CAP_AUDIT_CONTROL": 30,
    "CAP_SETFCAP": 31,
    "CAP_MAC_OVERRIDE": 32,
    "CAP_MAC_ADMIN": 33,
    "CAP_SYSLOG": 34,
    "CAP_WAKE_ALARM": 35,
    "CAP_BLOCK_SUSPEND": 36,
    "CAP_AUDIT_READ": 37,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
    "CAP_CHECKPOINT_RESTORE": 40,
}

_STATUS_LIMIT_BYTES = 64 << 10


def mask(names: "list[str]") -> int:
    """The bits of the names; a name that is not known has none (the validation warns of it)."""
    bits = 0
    for name in names:
        number = CAPS.get(name)
        if number is not None:
            bits |= 1 << number
    return bits


def last_cap() -> int:
    """Number of the last capability the running kernel knows.

    A file, for prctl(PR_CAPBSET_READ) is out of reach without ctypes, which costs 3 ms.
    """
    return int(_read("/proc/sys/kernel/cap_last_cap"))


def bounding() -> int:
    """The bounding set of this process."""
    status = _read("/proc/self/status")
    start = status.index(b"\nCapBnd:") + len("\nCapBnd:")
    return int(status[start : status.index(b"\n", start)], 16)


def _read(path: str) -> bytes:
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError as error:
        raise KernelError("open", path, error.errno or errno.EIO) from None
    try:
        return posix.read(fd, _STATUS_LIMIT_BYTES)
    finally:
        posix.close(fd)
