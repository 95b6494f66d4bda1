"""Disks of containers: images of directories, scratches, and what the operator gives.

Runs in: vmshim.   Imports: fcntl, posix; disk, linux, vm.command.
Source:  docs/vm.md "Disks"; docs/lifecycle.md 122-127; docs/security.md V24, V42, V43, V49.
Never:   writes into a rootfs or a layer, follows a link of one, or leaves a file behind: what is made here has no name.

Every function gives an fd for `Machine.attach_disk`; the caller closes it afterwards. QEMU has its own then, and with
the last one the disk is gone.
"""

import errno
import fcntl
import posix
import stat
import struct

from skerry import disk
from skerry.errors import EngineError, KernelError
from skerry.linux.abi import CLONE_NEWIPC, CLONE_NEWNET
from skerry.linux.fd import close_all
from skerry.plan.helper import Share
from skerry.rpc.loop import Loop
from skerry.state import files
from skerry.vm import confine, programs
from skerry.vm.command import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.native.cgroup.group import Cgroup
    from skerry.rpc.loop import Steps

# Not below /run, which is memory: an image is as large as the directory, a scratch as what is written to it.
DIRECTORY = "/var/lib/skerry/disks"
EROFS_PROGRAMS = ("/usr/bin/mkfs.erofs", "/usr/sbin/mkfs.erofs")
SCRATCH_BYTES = disk.SIZE_GB * disk.GB
# reads every file and trusted.* attributes, which say what an overlay hides
_READS_ALL = ("CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN")
_FULL = {errno.ENOSPC: "free some space there, or name another directory in the configuration"}
_LOCK = {errno.EACCES: "another machine uses it", errno.EAGAIN: "another machine uses it"}


def image_of(
    loop: Loop, source: str, *, directory: str = "", cgroup: "Cgroup | None" = None
) -> "Steps":
    """A read-only erofs of what is in a directory of the host, whiteouts and opaque marks of overlays included.

    The directory is read through a private mount of it alone, where no symbolic link is followed.
    Result  an fd, open for reading.
    Errors  EngineError, KernelError.
    """
    directory = directory or programs.disks_directory(DIRECTORY)
    fd = _new_file(directory)
    try:
        program = programs.find("mkfs.erofs", EROFS_PROGRAMS, package="erofs-utils")
        argv = [program, "--quiet", "/proc/self/fd/3", directory]
        share = Share(source, directory, read_only=True, recursive=False)
        confinement = _confinement(_READS_ALL, cgroup)
        yield from run(loop, argv, [(fd, "the image")], confinement, share=share)
        return _reopen_for_reading(fd)
    finally:
        posix.close(fd)


def scratch(
    loop: Loop,
    size: int = SCRATCH_BYTES,
    *,
    directory: str = "",
    cgroup: "Cgroup | None" = None,
) -> "Steps":
    """An empty ext4 without journal, sparse; of the usual size a copy of one that was made before.

    Result  an fd, open for reading and writing.
    """
    directory = directory or programs.disks_directory(DIRECTORY)
    fd = _new_file(directory)
    try:
        cache = f"{directory}/empty-{size}.ext4"
        if not _copy_cache(cache, fd, size):
            yield from _format(loop, fd, size, cgroup)
            _fill_cache(cache, fd)
        return fd
    except BaseException:
        posix.close(fd)
        raise


def open_disk(path: str, *, read_only: bool) -> int:
    """A file or a block device that the operator names, locked against use by another machine.

    Errors  KernelError; EngineError for another kind of file. A block device must be free, to be written to.
    """
    flags = posix.O_RDONLY if read_only else posix.O_RDWR
    flags |= posix.O_CLOEXEC | posix.O_NONBLOCK
    try:
        fd = posix.open(path, flags)
        if stat.S_ISBLK(posix.fstat(fd).st_mode) and not read_only:
            posix.close(fd)
            fd = posix.open(path, flags | posix.O_EXCL)  # nobody has mounted it
    except OSError as error:
        hint = "it is in use" if error.errno == errno.EBUSY else ""
        raise KernelError("open", f"disk {path}", error.errno or 0, hint=hint) from None
    try:
        kind = stat.S_IFMT(posix.fstat(fd).st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFBLK):
            raise EngineError(f"cannot use {path}: it is neither a disk nor a file")
        if kind == stat.S_IFREG:
            lock(fd, path, shared=read_only)
    except BaseException:
        posix.close(fd)
        raise
    return fd


def lock(fd: int, path: str, *, shared: bool) -> None:
    """The lock is the open file's, which QEMU gets: it lasts as long as anybody has it."""
    kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(kind))
    except OSError as error:
        number = error.errno or 0
        raise KernelError("lock", f"disk {path}", number, hint=_LOCK.get(number, "")) from None


def _flock(kind: int) -> bytes:
    """struct flock of the whole file."""
    return struct.pack("@hhqqi4x", kind, 0, 0, 0, 0)


def _confinement(capabilities: "tuple[str, ...]", cgroup: "Cgroup | None") -> confine.Confinement:
    return confine.Confinement(
        0, capabilities=capabilities, namespaces=CLONE_NEWNET | CLONE_NEWIPC, cgroup=cgroup
    )


def _new_file(directory: str) -> int:
    """A file without a name: it is gone with its last fd, whatever happens to us."""
    try:
        files.make_directories(directory)
        files.check_owner(posix.stat(directory), directory)
        flags = posix.O_RDWR | posix.O_TMPFILE | posix.O_CLOEXEC
        return posix.open(directory, flags, 0o600)
    except OSError as error:
        if isinstance(error, KernelError):
            raise
        hint = _FULL.get(error.errno or 0, "")
        raise KernelError("make", f"a disk in {directory}", error.errno or 0, hint=hint) from None


def _reopen_for_reading(fd: int) -> int:
    """QEMU cannot write through it, nor through anything that it can make of it."""
    try:
        return posix.open(f"/proc/self/fd/{fd}", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError as error:
        raise KernelError("open", "an image", error.errno or 0) from None


def _copy_cache(cache: str, fd: int, size: int) -> bool:
    """Whether there was one to copy."""
    try:
        source = posix.open(cache, files.OPEN_FILE)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise KernelError("open", cache, error.errno or 0) from None
    try:
        status = posix.fstat(source)
        if files.foreign(status) or status.st_size != size:
            return False
        disk.copy_sparse(source, fd)
        return True
    except OSError as error:
        hint = _FULL.get(error.errno or 0, "")
        raise KernelError("copy", cache, error.errno or 0, hint=hint) from None
    finally:
        posix.close(source)


def _format(loop: Loop, fd: int, size: int, cgroup: "Cgroup | None") -> "Steps":
    program = programs.find("mkfs.ext4", disk.PROGRAMS, package="e2fsprogs")
    posix.ftruncate(fd, size)
    argv = [program, *disk.OPTIONS, "/proc/self/fd/3"]
    yield from run(loop, argv, [(fd, "the disk")], _confinement((), cgroup))


def _fill_cache(cache: str, fd: int) -> None:
    """For the next one; a cache that cannot be filled is no failure."""
    directory, _, name = cache.rpartition("/")
    fds = []
    try:
        fds.append(posix.open(directory, files.OPEN_DIRECTORY))
        flags = posix.O_RDWR | posix.O_TMPFILE | posix.O_CLOEXEC
        fds.append(posix.open(directory, flags, 0o600))
        disk.copy_sparse(fd, fds[1])
        # With a directory's fd it is linkat(2) that is called, which looks behind the link of /proc.
        posix.link(f"/proc/self/fd/{fds[1]}", name, dst_dir_fd=fds[0], follow_symlinks=True)
    except OSError:
        return
    finally:
        close_all(fds)
