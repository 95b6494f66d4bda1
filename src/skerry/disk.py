"""Disks for containers: a sparse file with an empty ext4, or a disk that gets one.

Runs in: create-scratch, prepare-disk.   Imports: os, fcntl; errors, timeouts; subprocess, late.
Source:  docs/lifecycle.md 122-125; mke2fs(8).
Never:   mounts what it makes, formats what is in use, or leaves a half-made file under its name.
"""

import errno
import fcntl
import os
import stat

from skerry import timeouts
from skerry.errors import Error, KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

GB = 1 << 30
SIZE_GB = 20  # and what a cache holds
PROGRAMS = ("/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4")
# One -F: the answer to its questions is yes, but what is in use stays refused.
OPTIONS = ("-q", "-F", "-O", "^has_journal")


def create_scratch(path: str, *, size_gb: int = 0, cache: str = "") -> None:
    """Make a scratch disk, a copy of the cache's if that fits; fill the cache if it is not there.

    Units   GiB; 0 is the size of a cache.
    Errors  Error, KernelError; there is no file then.
    """
    size = (size_gb or SIZE_GB) * GB
    cached = cache if size == SIZE_GB * GB else ""
    if os.path.lexists(path):
        raise KernelError("create", path, errno.EEXIST)
    if cached and os.path.lexists(cached):
        _make(path, lambda fd: _copy_cache(cached, fd), os.link)
        return
    _make(path, lambda fd: _format_new(fd, size), os.link)
    if cached:
        _make(cached, lambda fd: _copy_path(path, fd), os.rename)


def prepare_disk(path: str) -> None:
    """Format a disk or an image file.

    Errors  Error, KernelError; what is missing or in use is untouched then.
    """
    try:
        # O_EXCL: of a block device, nobody may have it mounted, or swap on it, or a mapping
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_EXCL | os.O_NONBLOCK)
    except OSError as error:
        raise KernelError("open", path, error.errno or 0) from None
    try:
        status = os.fstat(fd)
        if stat.S_ISBLK(status.st_mode):
            os.close(fd)  # mkfs takes it in the same way
            fd = -1
            _format(path)
        elif stat.S_ISREG(status.st_mode):
            _check_image(fd, path, status)
            _format(f"/proc/self/fd/{fd}", fd)
        else:
            raise Error(f"cannot format {path}: it is neither a disk nor a file")
    finally:
        if fd >= 0:
            os.close(fd)


def _make(path: str, fill: "Callable[[int], None]", name: "Callable[[str, str], None]") -> None:
    """Fill a new file beside the path and give it its name when it is whole."""
    temporary = f"{path}.{os.urandom(6).hex()}"
    try:
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KernelError("create", path, error.errno or 0) from None
    try:
        fill(fd)
        name(temporary, path)
    except OSError as error:
        if isinstance(error, Error):
            raise
        raise KernelError("create", path, error.errno or 0) from error
    finally:
        os.close(fd)
        if os.path.lexists(temporary):
            os.unlink(temporary)


def _format_new(fd: int, size: int) -> None:
    os.ftruncate(fd, size)
    _format(f"/proc/self/fd/{fd}", fd)


def _copy_cache(cache: str, fd: int) -> None:
    if os.stat(cache).st_size != SIZE_GB * GB:
        raise Error(f"cannot use the cache {cache}: it is not a disk of {SIZE_GB} GB")
    _copy_path(cache, fd)


def _copy_path(source: str, fd: int) -> None:
    source_fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        copy_sparse(source_fd, fd)
    finally:
        os.close(source_fd)


def copy_sparse(source: int, target: int) -> None:
    """Copy what is in a file, and no hole.

    Errors  OSError.
    """
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    end = 0
    while end < size:
        try:
            begin = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole follows
                return
            raise
        end = os.lseek(source, begin, os.SEEK_HOLE)
        os.lseek(target, begin, os.SEEK_SET)
        while begin < end:
            begin += os.sendfile(target, source, begin, end - begin)


def _check_image(fd: int, path: str, status: os.stat_result) -> None:
    """Refuse an image that a loop device shows, or that somebody has locked as a virtual machine does."""
    for name in os.listdir("/sys/block"):
        try:
            with open(f"/sys/block/{name}/loop/backing_file") as file:
                backing = os.stat(file.read().rstrip("\n"))
        except OSError:
            continue
        if (backing.st_dev, backing.st_ino) == (status.st_dev, status.st_ino):
            raise Error(f"cannot format {path}: /dev/{name} shows it")
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise KernelError("lock", path, error.errno or 0) from None


def _format(path: str, *fds: int) -> None:
    """Errors  Error with the last line of what mkfs said."""
    program = next((path for path in PROGRAMS if os.access(path, os.X_OK)), "")
    if not program:
        raise Error(f"cannot format a disk: {PROGRAMS[0]} is not there", hint="install e2fsprogs")
    import subprocess

    limit = timeouts.seconds("COMMAND")
    try:
        done = subprocess.run(
            [program, *OPTIONS, path],
            stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=limit, pass_fds=fds,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Error(f"cannot format a disk: no end after {limit} s") from None
    if done.returncode:
        said = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no word"])[-1]
        raise Error(f"cannot format a disk: {said} (exit status {done.returncode})")
