"""File descriptors: sealed memory files, passing over sockets, moving out of the way.

Runs in: create, start, exec (hot).   Imports: posix, errno, fcntl, struct, _socket; skerry.errors.
Source:  memfd_create(2), fcntl(2) "File Sealing", unix(7) SCM_RIGHTS, recvmsg(2).
Never:   returns a descriptor that a child would inherit: what the kernel does not mark
         close-on-exec by itself (F_DUPFD, received ones, dup2) is asked for by the call that marks
         it at birth, never marked afterwards.

Descriptors are plain integers. Who gets one from a function here closes it; nothing waits for the
garbage collector.
"""

import _socket
import errno
import fcntl
import posix
import struct

from skerry.errors import KernelError, RpcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# linux/memfd.h, since Linux 6.3; older kernels say EINVAL. Python has neither name.
MFD_NOEXEC_SEAL, MFD_EXEC = 0x8, 0x10
# linux/fcntl.h, since Linux 6.3: the execute bits stay as they are.
F_SEAL_EXEC = 0x20
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

# net/core/scm.c SCM_MAX_FD: no message carries more, so a buffer of this size is never cut.
FDS_PER_MESSAGE = 253
_INT_BYTES = 4
_ANCILLARY_BYTES = _socket.CMSG_SPACE(FDS_PER_MESSAGE * _INT_BYTES)


def memfd(name: str, data: bytes, *, executable: bool = False) -> int:
    """Make a memory file that nobody can change any more, not even its maker.

    Errors  KernelError; EACCES where the administrator forbids executable ones (vm.memfd_noexec=2,
            an LSM).
    Owns    the caller closes it.
    """
    fd = _create(name, MFD_EXEC if executable else MFD_NOEXEC_SEAL)
    try:
        write_all(fd, data)
        seal(fd)
        posix.lseek(fd, 0, 0)
    except OSError as error:
        posix.close(fd)
        raise KernelError("fill", f"memory file {name}", error.errno or 0) from error
    return fd


def _create(name: str, flag: int) -> int:
    flags = posix.MFD_CLOEXEC | posix.MFD_ALLOW_SEALING
    try:
        try:
            return posix.memfd_create(name, flags | flag)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # Before 6.3 there is no such flag, and every memfd may be executed.
            return posix.memfd_create(name, flags)
    except OSError as error:
        hint = "see the sysctl vm.memfd_noexec" if error.errno == errno.EACCES else ""
        raise KernelError("make", f"memory file {name}", error.errno or 0, hint=hint) from error


def seal(fd: int) -> None:
    """Seal a memfd against every change and read the seals back (CVE-2019-5736: believe only what
    the kernel says).

    Errors  OSError; EPERM where the seals did not hold.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS | F_SEAL_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS != SEALS:
        raise OSError(errno.EPERM, "the seals did not hold")


def write_all(fd: int, data: bytes) -> None:
    """Write every byte; a system call may take fewer than it was given."""
    rest = memoryview(data)
    while rest:
        rest = rest[posix.write(fd, rest) :]


def write_some(fd: int, data: "bytes | bytearray", *, at_once: int | None = None) -> int:
    """Write what goes without blocking, on a descriptor whose flags are not ours to change; 0 for nothing.

    `at_once`: the most bytes for one that knows no NOWAIT. Files never block, terminals of ours were opened so.
    """
    try:
        return posix.pwritev(fd, [data], -1, posix.RWF_NOWAIT)
    except BlockingIOError:
        return 0
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ESPIPE, errno.EINVAL):
            raise
    try:
        return posix.write(fd, data[:at_once])
    except BlockingIOError:
        return 0


def read_all(fd: int) -> bytes:
    """Read from where the file stands to its end."""
    chunks = []
    # One byte more than the file has, so that an unchanged file ends with the second call.
    size = max(posix.fstat(fd).st_size + 1, 4096)
    while chunk := posix.read(fd, size):
        chunks.append(chunk)
    return b"".join(chunks)


def recv_with_fds(sock: "_socket.socket", size: int) -> "tuple[bytes, list[int]]":
    """Receive one message and the descriptors that ride along.

    Errors  RpcError for a message longer than `size` or one whose descriptors did not all arrive
            (EMFILE does that); those that did are closed. KernelError from the call.
    Owns    the caller closes the descriptors, whatever it makes of the message.
    """
    try:
        # MSG_CMSG_CLOEXEC: without it another thread's fork inherits them (Python does not add it).
        data, ancillary, flags, _ = sock.recvmsg(size, _ANCILLARY_BYTES, _socket.MSG_CMSG_CLOEXEC)
    except OSError as error:
        raise KernelError("receive", "a message", error.errno or 0) from error
    fds: list[int] = []
    for level, kind, payload in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            count = len(payload) // _INT_BYTES
            fds.extend(struct.unpack_from(f"{count}i", payload))
    if flags & (_socket.MSG_CTRUNC | _socket.MSG_TRUNC):
        close_all(fds)
        cut = bool(flags & _socket.MSG_CTRUNC)
        lost = "descriptors were lost" if cut else f"longer than {size} bytes"
        raise RpcError(f"cannot receive a message: {lost}")
    return data, fds


def send_with_fds(sock: "_socket.socket", data: bytes, fds: "Sequence[int]") -> None:
    """Send one message with descriptors; they stay open here.

    Errors  KernelError; EPIPE where the peer is gone (never a signal).
    """
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))]
    try:
        sent = sock.sendmsg([data], ancillary if fds else [], _socket.MSG_NOSIGNAL)
        if sent < len(data):  # only a stream does that; the descriptors went with the first byte
            sock.sendall(data[sent:], _socket.MSG_NOSIGNAL)
    except OSError as error:
        raise KernelError("send", "a message", error.errno or 0) from error


def lift(fd: int, lowest: int) -> int:
    """Duplicate a descriptor to the first free number that is not below `lowest`, close-on-exec.

    Owns    the caller closes the new one; the old one stays open.
    """
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
    except OSError as error:
        raise KernelError("duplicate", f"file descriptor {fd}", error.errno or 0) from error


def close_all(fds: "Sequence[int]") -> None:
    """Close each; one that is closed already does not keep the others open."""
    for fd in fds:
        try:
            posix.close(fd)
        except OSError as error:
            # The kernel frees the number whatever close says; EBADF means that there was none.
            if error.errno == errno.EBADF:
                continue


def open_fds() -> "list[int]":
    """The descriptors this process has open, in order."""
    found = []
    for name in posix.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            fcntl.fcntl(fd, fcntl.F_GETFD)
        except OSError:  # the one that listdir itself read the directory by
            continue
        found.append(fd)
    return sorted(found)


def is_inheritable(fd: int) -> bool:
    """Whether a program started from here would get the descriptor."""
    return not fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
