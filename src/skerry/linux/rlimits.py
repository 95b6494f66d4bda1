"""The resource limits of this process.

Runs in: create, exec (hot).   Imports: posix; skerry.errors.
Source:  /proc/pid/limits of proc(5): a head, then a line for each limit in the order of their numbers.
Never:   sets one; that is skerry-init's part.

The module `resource` knows them too, but is a shared library of its own: 0.4 ms to load.
"""

import errno
import posix

from skerry.errors import KernelError

_LIMIT_BYTES = 64 << 10
_NAME_BYTES = 26
INFINITY = -1  # as Python writes RLIM_INFINITY


def own() -> "list[tuple[int, int]]":
    """(soft, hard) of each limit, by its number.

    Errors  KernelError where /proc does not tell.
    """
    path = "/proc/self/limits"
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError as error:
        raise KernelError("open", path, error.errno or errno.EIO) from None
    try:
        lines = posix.read(fd, _LIMIT_BYTES).split(b"\n")[1:-1]
    finally:
        posix.close(fd)
    found = []
    for line in lines:
        soft, hard = line[_NAME_BYTES:].split()[:2]
        found.append((_value(soft), _value(hard)))
    return found


def _value(text: bytes) -> int:
    return INFINITY if text == b"unlimited" else int(text)
