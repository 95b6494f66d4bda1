"""Reading the documents that skerry is given: config.json, a process, resources.

Runs in: create, run, exec, update (hot).   Imports: posix stat jsonio.
Source:  lifecycle 34; security.md section 8, "config file".
Never:   waits for a FIFO, reads a device, or reads without an end.
"""

import errno
import posix
import stat

from skerry import jsonio
from skerry.errors import KernelError, SpecError
from skerry.paths import CONFIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# More than the arguments and environment that the kernel takes, and below 100 MB in memory even
# where a character takes four bytes.
LIMIT_BYTES = 8 << 20
_STDIN = 0
_CHUNK_BYTES = 1 << 16


def load_bundle(bundle: str, *, config: str = CONFIG) -> "tuple[dict[str, Any], bytes]":
    """The spec of a bundle, and the bytes it was read from.

    Errors  SpecError, also where there is no such file; KernelError if it cannot be read.
    """
    data = _read_file(f"{bundle.rstrip('/')}/{config}", f"JSON specification file {config}")
    return _document(data, config), data


def load_process(path: str) -> "dict[str, Any]":
    """The process document of `exec --process`."""
    return _document(_read_file(path, path), path)


def load_resources(path: str) -> "dict[str, Any]":
    """The resources document of `update --resources`; `-` is stdin."""
    if path == "-":
        return _document(_read(_STDIN, "stdin"), "stdin")
    return _document(_read_file(path, path), path)


def _document(data: bytes, what: str) -> "dict[str, Any]":
    value = jsonio.loads(data, what=what)
    if not isinstance(value, dict):
        raise SpecError("", f"{what}: the document is not an object")
    return value


def _read_file(path: str, what: str) -> bytes:
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise SpecError("", f"{what} not found") from None
        raise KernelError("open", path, error.errno or errno.EIO) from None
    except ValueError:
        raise SpecError("", f"{what} not found: the path holds a NUL byte") from None
    try:
        if not stat.S_ISREG(posix.fstat(fd).st_mode):
            raise SpecError("", f"{what} is not a regular file")
        return _read(fd, what)
    finally:
        posix.close(fd)


def _read(fd: int, what: str) -> bytes:
    chunks, size = [], 0
    while chunk := _read_chunk(fd, what):
        size += len(chunk)
        if size > LIMIT_BYTES:
            raise SpecError("", f"{what} is larger than {LIMIT_BYTES >> 20} MiB")
        chunks.append(chunk)
    return b"".join(chunks)


def _read_chunk(fd: int, what: str) -> bytes:
    try:
        return posix.read(fd, _CHUNK_BYTES)
    except OSError as error:
        raise KernelError("read", what, error.errno or errno.EIO) from None
