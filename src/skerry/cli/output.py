"""Writing to descriptors 1 and 2, whole and without a codec of the locale.

Runs in: every verb (hot).   Imports: posix, errors.
Source:  write(2).
Never:   buffers: what was written is out, so the process may leave by _exit.
"""

import posix

from skerry.errors import KernelError

STDOUT, STDERR = 1, 2


class ReaderGone(Exception):
    """Nobody reads our standard output any more, as in `skerry list | head -1`."""


def write_out(data: "str | bytes", /) -> None:
    """Write to standard output. Errors: ReaderGone; KernelError (a full disk, for one)."""
    try:
        write_all(STDOUT, _encode(data) if isinstance(data, str) else data)
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as error:
        raise KernelError("write", "standard output", error.errno or 0) from error


def write_err(text: str, /) -> None:
    """Write to standard error. Where nothing can be told to anybody, nothing is said."""
    try:
        write_all(STDERR, _encode(text))
    except OSError:
        return


def write_all(fd: int, data: bytes, /) -> None:
    while data:
        data = data[posix.write(fd, data) :]


def _encode(text: str) -> bytes:
    """UTF-8 whatever the locale says. Bytes that were no text come out as they came in."""
    return text.encode("utf-8", "surrogateescape")
