"""The file of a key: its name, and what must be right about it before its content is believed.

Runs in: every verb (hot).   Imports: posix, errno; skerry.errors, state.files.
Source:  docs/lifecycle.md 15; openat(2).
Never:   writes, or looks into the JSON.
"""

import errno
import posix

from skerry.errors import DamagedKey, Error, KernelError, NoSuchKey
from skerry.state import files

LIMIT_BYTES = 128
_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
_S_IFMT, _S_IFREG = 0o170000, 0o100000


def checked(key: str) -> str:
    """A key is one plain file name, so that nothing of it needs escaping."""
    if 0 < len(key) <= LIMIT_BYTES and key[0] != "." and _CHARACTERS.issuperset(key):
        return key
    raise Error(f"invalid key '{key}'")


def read(directory_fd: int, id: str, key: str) -> bytes:
    """The content of a key.

    Errors  NoSuchKey; DamagedKey for what no writer of ours has left; KernelError.
    """
    try:
        fd = posix.open(key, files.OPEN_FILE, dir_fd=directory_fd)
    except FileNotFoundError:
        raise NoSuchKey(id, key) from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            raise DamagedKey(id, key, "not a regular file") from None
        raise KernelError("read", f"state '{key}' of ID '{id}'", error.errno or 0) from error
    try:
        status = posix.fstat(fd)
        if status.st_mode & _S_IFMT != _S_IFREG:
            raise DamagedKey(id, key, "not a regular file")
        cause = files.foreign(status)
        if cause:
            raise DamagedKey(id, key, cause)
        # Files are replaced and never changed, so the size holds.
        return posix.read(fd, status.st_size)
    except OSError as error:
        raise KernelError("read", f"state '{key}' of ID '{id}'", error.errno or 0) from error
    finally:
        posix.close(fd)
