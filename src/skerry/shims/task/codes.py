"""How an error is told to containerd: one table from its class to a code.

Runs in: the task shim.   Imports: errors, .ttrpc.
Source:  google.rpc.Code; engines "Status codes". containerd's callers act on not found, exists and precondition.
Never:   shows a traceback.
"""

from skerry import errors
from skerry.shims.task import ttrpc

# class of the error -> code; the first that fits
TABLE = (
    (errors.NotFound, ttrpc.NOT_FOUND),
    (errors.NoSuchKey, ttrpc.NOT_FOUND),
    (errors.AlreadyExists, ttrpc.EXISTS),
    (errors.StateError, ttrpc.PRECONDITION),
    (errors.UsageError, ttrpc.INVALID),
    (errors.SpecError, ttrpc.INVALID),
    (errors.RpcError, ttrpc.INVALID),
    # What the kernel, the image or a hook did not let happen. containerd shows the line as it is.
    (errors.Error, ttrpc.UNKNOWN),
)


def of(error: BaseException) -> "tuple[int, str]":
    """(code, one line)."""
    if isinstance(error, ttrpc.Failure):
        return error.code, error.message
    for cls, code in TABLE:
        if isinstance(error, cls):
            return code, str(error)
    if isinstance(error, Exception):
        text = f"internal error: {type(error).__name__}: {error}"
        return ttrpc.INTERNAL, errors.one_line(text)
    return ttrpc.CANCELLED, "the operation was stopped"
