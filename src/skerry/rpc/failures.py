"""Errors across a wire: what one of our processes raises, another raises again as the same class.

Runs in: vmshim, container shim, agent, and the verbs that talk to them; pure.   Imports: errors.
Source:  docs/vm.md "The vmshim's socket", "The link"; errors.py, whose classes and fields these are.
Never:   trusts what it reads: an unknown kind is an EngineError, text is cut to one printable line.

    {"kind": "StateError", "message": ..., "hint": ..., "id": ..., "status": ..., "verb": ...}
"""

from skerry import errors
from skerry.errors import Error, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# class -> its fields, each a text or a number
FIELDS: "dict[str, tuple[str, ...]]" = {
    "Error": (),
    "UsageError": (),
    "SpecError": ("pointer", "rule"),
    "NotFound": ("id",),
    "NoSuchKey": ("id", "key"),
    "Damaged": ("id",),
    "DamagedKey": ("id", "key"),
    "AlreadyExists": ("id",),
    "StateError": ("id", "status", "verb"),
    "KernelError": ("call", "what", "errno"),
    "InitError": ("process", "step", "call", "errno", "pointer"),
    "HookError": (),
    "EngineError": ("id", "operation"),
    "VmError": ("id", "operation", "phase"),
    "VmUnreachable": ("id", "operation"),
    "GuestError": ("id", "operation"),
    "ReleaseError": (),
    "RpcError": (),
}
_NUMBERS = ("errno",)


def encode(error: BaseException) -> "dict[str, Any]":
    """An error as a document; one that is none of ours is a defect, and told as such."""
    kind = type(error).__name__
    if not isinstance(error, Error) or kind not in FIELDS:
        text = error.message if isinstance(error, Error) else f"{kind}: {error}"
        return {"kind": "EngineError", "message": one_line(text), "hint": ""}
    document: dict[str, Any] = {"kind": kind, "message": error.message, "hint": error.hint}
    for name in FIELDS[kind]:
        document[name] = getattr(error, name)
    return document


def decode(document: object) -> Error:
    """The error that a document tells of, whatever else it may be."""
    if type(document) is not dict:
        document = {}
    kind = document.get("kind")
    if type(kind) is not str or kind not in FIELDS:
        kind = "EngineError"
    found: type[Error] = getattr(errors, kind)
    error = found.__new__(found)
    Error.__init__(error, _text(document, "message") or "no reason was given", hint=_text(document, "hint"))
    for name in FIELDS[kind]:
        value = document.get(name)
        if name in _NUMBERS:
            setattr(error, name, value if type(value) is int and 0 <= value < 4096 else 0)
        else:
            setattr(error, name, _text(document, name))
    if isinstance(error, errors.UsageError):
        error.usage = False
    if isinstance(error, errors.VmError):
        error.console = []
    if isinstance(error, errors.ReleaseError):
        error.causes = [error.message]
    return error


def _text(document: "dict[str, Any]", name: str) -> str:
    value = document.get(name)
    return one_line(value) if type(value) is str else ""
