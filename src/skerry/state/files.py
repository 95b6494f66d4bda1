"""Files and directories of the store, by descriptor: private modes, no links, bounded deletes.

Runs in: every verb (hot).   Imports: posix, errno, fcntl; skerry.errors, linux.fd.
Source:  openat(2), proc_pid_fdinfo(5).
Never:   knows a key or an id; follows a link in the last component; deletes what is mounted.
"""

import errno
import fcntl
import posix

from skerry.errors import Error
from skerry.linux.fd import write_all

DEPTH_LIMIT = 16

OPEN_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
# O_NONBLOCK: a fifo in the place of a file would block for ever.
OPEN_FILE = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC
_OPEN_NEW = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC


def foreign(status: posix.stat_result) -> str:
    """Why another user could have written this, or "".

    What is read here decides who is signalled and what is deleted.
    """
    if status.st_uid not in (posix.geteuid(), 0):
        return f"it belongs to user {status.st_uid}"
    if status.st_mode & 0o022:
        return f"others may write there (mode {status.st_mode & 0o7777:04o})"
    return ""


def check_owner(status: posix.stat_result, what: str) -> None:
    """Errors  Error for what another user could have written."""
    cause = foreign(status)
    if cause:
        raise Error(f"cannot use {what}: {cause}")


def read_small(path: str) -> bytes:
    fd = posix.open(path, OPEN_FILE)
    try:
        return posix.read(fd, 256)
    finally:
        posix.close(fd)


def write_new(directory_fd: int, name: str, data: bytes) -> None:
    fd = posix.open(name, _OPEN_NEW, 0o600, dir_fd=directory_fd)
    try:
        posix.fchmod(fd, 0o600)  # whatever the caller's umask took away
        write_all(fd, data)
    finally:
        posix.close(fd)


def make_directory(path: str) -> None:
    posix.mkdir(path, 0o700)
    posix.chmod(path, 0o700)  # as above


def ensure_directory(path: str) -> None:
    try:
        make_directory(path)
    except FileExistsError:
        return


def make_directories(path: str) -> None:
    try:
        ensure_directory(path)
    except FileNotFoundError:
        parent = path.rpartition("/")[0]
        if not parent:
            raise
        make_directories(parent)
        ensure_directory(path)


def exists(path: str) -> bool:
    try:
        posix.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return True


def unlink(directory_fd: int, name: str) -> None:
    try:
        posix.unlink(name, dir_fd=directory_fd)
    except OSError:
        return


def delete(fd: int, path: str) -> None:
    """Empty the directory and unlink it as far as that goes; others may be at the same work."""
    try:
        _empty(fd, _mount_id(fd), DEPTH_LIMIT)
        posix.rmdir(path)
    except OSError:
        return


def sweep(path: str) -> None:
    """Delete the directories in a directory that nobody has locked, as far as that goes."""
    try:
        names = posix.listdir(path)
    except OSError:
        return
    for name in names:
        try:
            fd = posix.open(f"{path}/{name}", OPEN_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            delete(fd, f"{path}/{name}")
        except OSError:  # EWOULDBLOCK: its maker lives
            continue
        finally:
            posix.close(fd)


def _empty(fd: int, mount: bytes, depth: int) -> None:
    for name in posix.listdir(fd):
        try:
            posix.unlink(name, dir_fd=fd)
        except FileNotFoundError:
            continue
        except IsADirectoryError:
            _empty_below(fd, name, mount, depth - 1)


def _empty_below(fd: int, name: str, mount: bytes, depth: int) -> None:
    below = posix.open(name, OPEN_DIRECTORY, dir_fd=fd)
    try:
        # What is mounted here is not ours to delete; device numbers do not show a bind mount.
        if depth == 0 or _mount_id(below) != mount:
            raise OSError(errno.EBUSY, name)
        _empty(below, mount, depth)
    finally:
        posix.close(below)
    posix.rmdir(name, dir_fd=fd)


def _mount_id(fd: int) -> bytes:
    info = read_small(f"/proc/self/fdinfo/{fd}")
    return info.partition(b"mnt_id:")[2].split(b"\n")[0]
