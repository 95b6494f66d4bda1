"""Compiled seccomp filters, kept by content.

Runs in: create, exec (hot).   Imports: posix stat _sha256.
Source:  measured: compiling a profile of 354 calls for three architectures takes 9 ms.
Never:   believes a file that is not ours alone; never fails a create: there is always the compiler.

A file is named by what the filter was made from (the profile's rules, this machine, our own way of
compiling). It is a SHA-256 digest, a line of JSON, the filter. It holds while the very libseccomp
that made it is installed: path, inode, size and time of the library are compared, so that neither
an update nor a hit needs the library loaded. Made without a name and linked when whole, a file is
never seen half written and leaves nothing behind if we are killed.
"""

import posix
import stat

from skerry import jsonio
from skerry.linux import seccomp as table

try:
    from _sha256 import sha256  # type: ignore[import-not-found]
except ImportError:  # Python >= 3.12
    from _sha2 import sha256  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FORMAT = 1
_DIGEST_BYTES = 32
_FILE_LIMIT_BYTES = 1 << 20
_FILES_LIMIT = 1000
# Of the seccomp section only these decide the filter's bytes.
_INPUTS = ("defaultAction", "defaultErrnoRet", "architectures", "syscalls")
_O_TMPFILE = 0o20000000 | posix.O_DIRECTORY


def key(seccomp: "dict[str, Any]") -> str:
    """Name of the file for this profile on this machine."""
    inputs = [seccomp.get(name) for name in _INPUTS]
    return str(sha256(jsonio.dumps([_FORMAT, posix.uname().machine, inputs])).hexdigest())


def load(directory: str, name: str) -> "tuple[bytes, list[str]] | None":
    """The filter and the ignored names, or None if it must be compiled."""
    try:
        directory_fd = _open_directory(directory)
    except OSError:
        return None
    try:
        data = _read(directory_fd, name)
    except OSError:
        return None
    finally:
        posix.close(directory_fd)
    content = data[_DIGEST_BYTES:]
    if sha256(content).digest() != data[:_DIGEST_BYTES]:
        return None
    line, _, filter = content.partition(b"\n")
    head: Any = jsonio.loads(line)
    library, ignored = head
    return (filter, ignored) if library == _identity(library[0]) else None


def save(directory: str, name: str, filter: bytes, ignored: "list[str]") -> None:
    """Keep a filter; whatever prevents it is of no consequence."""
    from skerry.linux import libc

    library = _identity(libc.loaded_from(table.LIBRARY))
    if not library:
        return
    content = jsonio.dumps([library, ignored]) + b"\n" + filter
    try:
        try:
            posix.mkdir(directory, 0o700)
            posix.chmod(directory, 0o700)  # whatever the caller's umask took away
        except FileExistsError:
            pass
        directory_fd = _open_directory(directory)
    except OSError:
        return
    try:
        _make_room(directory_fd, name)
        _write(directory_fd, name, sha256(content).digest() + content)
    except OSError:
        pass
    finally:
        posix.close(directory_fd)


def _identity(path: str) -> "list[object]":
    """What changes when the library does; empty if it is not there."""
    try:
        facts = posix.stat(path)
    except OSError:
        return []
    return [path, facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns]


def _open_directory(path: str) -> int:
    """Open the cache; one that others may write to is no cache."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    facts = posix.fstat(fd)
    if facts.st_uid != posix.geteuid() or facts.st_mode & 0o077:
        posix.close(fd)
        raise PermissionError(path)
    return fd


def _read(directory_fd: int, name: str) -> bytes:
    flags = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC
    fd = posix.open(name, flags, dir_fd=directory_fd)
    try:
        facts = posix.fstat(fd)
        ours = facts.st_uid == posix.geteuid() and not facts.st_mode & 0o077
        if not ours or not stat.S_ISREG(facts.st_mode) or facts.st_size > _FILE_LIMIT_BYTES:
            raise PermissionError(name)
        return posix.read(fd, _FILE_LIMIT_BYTES)
    finally:
        posix.close(fd)


def _make_room(directory_fd: int, name: str) -> None:
    """Drop a stale file of the name, and all files when there are too many."""
    names = posix.listdir(directory_fd)
    for old in names if len(names) > _FILES_LIMIT else [name] if name in names else []:
        posix.unlink(old, dir_fd=directory_fd)


def _write(directory_fd: int, name: str, data: bytes) -> None:
    flags = _O_TMPFILE | posix.O_WRONLY | posix.O_CLOEXEC
    fd = posix.open(".", flags, 0o600, dir_fd=directory_fd)
    try:
        posix.fchmod(fd, 0o600)
        if posix.write(fd, data) == len(data):
            posix.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=directory_fd, follow_symlinks=True)
    finally:
        posix.close(fd)
