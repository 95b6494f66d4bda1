"""Read and write the small files and directories of cgroup file systems.

Runs in: create start exec state kill delete (hot).   Imports: posix errno select errors.
Source:  cgroups(7); kernel Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
Never:   knows what a file means, or follows anything: cgroup file systems have no symbolic links.

A file of a cgroup that is going away answers ENODEV where a file that is not there answers ENOENT;
both mean "gone".
"""

import errno
import posix
import select

from skerry.errors import KernelError

GONE = (errno.ENOENT, errno.ENODEV)
_READ = posix.O_RDONLY | posix.O_CLOEXEC
_CHUNK_BYTES = 1 << 16


def read_bytes(path: str, /) -> bytes:
    """Read a file of the kernel whole; its size is unknown beforehand."""
    try:
        fd = posix.open(path, _READ)
        try:
            data = chunk = posix.read(fd, _CHUNK_BYTES)
            while chunk:
                chunk = posix.read(fd, _CHUNK_BYTES)
                data += chunk
        finally:
            posix.close(fd)
    except OSError as error:
        raise KernelError("read", path, error.errno or 0) from None
    return data


def read(path: str, /) -> str:
    """Read a file, without the newline at its end."""
    return read_bytes(path).decode("utf-8", "surrogateescape").rstrip("\n")


def read_or(path: str, default: str = "", /) -> str:
    """Read a file that may be gone, or may not exist on this kernel."""
    try:
        return read(path)
    except KernelError as error:
        if error.errno in GONE:
            return default
        raise


def write(path: str, text: str, /) -> None:
    """Write a value in one system call: the kernel parses each write on its own."""
    try:
        fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
        try:
            posix.write(fd, text.encode("utf-8", "surrogateescape"))
        finally:
            posix.close(fd)
    except OSError as error:
        raise KernelError("write", f"'{text}' to {path}", error.errno or 0) from None


def is_directory(path: str, /) -> bool:
    try:
        return posix.stat(path).st_mode & 0o170000 == 0o040000
    except OSError:
        return False


def is_below_cgroup(path: str, /) -> bool:
    """Say whether what exists of the path ends in a cgroup."""
    while path and not is_directory(path):
        path = path.rpartition("/")[0]
    return is_file(f"{path}/cgroup.procs")


def is_file(path: str, /) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def make(path: str, /) -> bool:
    """Make a cgroup. False: it was there already."""
    try:
        posix.mkdir(path, 0o755)
    except OSError as error:
        if error.errno == errno.EEXIST and is_directory(path):
            return False
        # an id such as "tasks" meets a file of the parent
        raise KernelError("make cgroup", path, error.errno or 0) from None
    return True


def remove(path: str, /) -> int:
    """Remove a cgroup: 0 when it is gone, else the errno."""
    try:
        posix.rmdir(path)
    except OSError as error:
        return 0 if error.errno in GONE else error.errno or errno.EIO
    return 0


def subtree(path: str, /) -> list[str]:
    """The cgroup and all below it, parents first; what vanishes meanwhile is left out."""
    found = [path]
    for directory in found:
        try:
            with posix.scandir(directory) as entries:
                found += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError as error:
            if error.errno not in GONE:
                raise KernelError("list", directory, error.errno or 0) from None
    return found


def members(path: str, /) -> list[int]:
    """Pids of one cgroup, those of its children not included.

    A process outside our pid namespace shows as 0. A threaded cgroup answers EOPNOTSUPP; its
    processes are listed by the root of its threaded subtree.
    """
    try:
        text = read_or(f"{path}/cgroup.procs")
    except KernelError as error:
        if error.errno == errno.EOPNOTSUPP:
            return []
        raise
    return [int(word) for word in text.split() if word != "0"]


def pause(milliseconds: int, /) -> None:
    """Wait where the kernel offers nothing to wait for."""
    select.poll().poll(milliseconds)
