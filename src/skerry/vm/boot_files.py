"""The kernel and the initramfs as QEMU gets them: fds that it can open again as its own user.

Runs in: vmshim, template builder.   Imports: posix; errors.
Source:  proc(5) /proc/<pid>/fd: to open an entry there takes the right to open the file.
Never:   gives QEMU a path, or a file that others than root can change without saying so.
"""

import posix

from skerry.errors import KernelError, VmError
from skerry.linux.fd import close_all

_S_IFMT, _S_IFREG = 0o170000, 0o100000
_READABLE_BY_ALL = 0o004
_CHUNK_BYTES = 1 << 30


def open_both(kernel: str, initrd: str) -> "tuple[int, int]":
    """Owns: the caller closes them.

    Errors  KernelError, VmError naming the file.
    """
    kernel_fd = _open(kernel, "kernel")
    try:
        return kernel_fd, _open(initrd, "initramfs")
    except BaseException:
        close_all([kernel_fd])
        raise


def _open(path: str, what: str) -> int:
    """QEMU runs as a user of its own: a file that not everybody may read is copied into memory."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except OSError as error:
        raise KernelError("open", f"{what} {path}", error.errno or 0) from None
    mode = posix.fstat(fd).st_mode
    if mode & _S_IFMT != _S_IFREG:
        posix.close(fd)
        raise VmError(f"cannot use {what} {path}: it is not a file", phase="launch")
    if mode & _READABLE_BY_ALL:
        return fd
    copy = posix.memfd_create(f"skerry-{what}", posix.MFD_CLOEXEC)
    try:
        while posix.sendfile(copy, fd, None, _CHUNK_BYTES):
            pass
    except OSError as error:
        posix.close(copy)
        raise KernelError("read", f"{what} {path}", error.errno or 0) from None
    finally:
        posix.close(fd)
    return copy
