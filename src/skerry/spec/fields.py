"""Checks of single values: type, range, form.

Runs in: create, run, exec, update (hot); pure.   Imports: jsonio.
Source:  defs.json of the runtime-spec 1.3 schema; execve(2), path_resolution(7).
Never:   knows a property; shows a value that may be a secret (`secret_texts`).

A check takes (value, JSON pointer), answers nothing and raises SpecError. A table maps a property's
name to its check; what is in no table is not looked at, as the spec wants it. `True` is no number
here, and `1.0` is none either.
"""

from skerry.errors import SpecError
from skerry.jsonio import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Check = Callable[[Any, str], None]

PATH_LIMIT_BYTES = 4095
# MAX_ARG_STRLEN of linux/binfmts.h without the NUL at its end
STRING_LIMIT_BYTES = 131071
_SHOWN_CHARACTERS, _SHOWN_BITS = 60, 128


def show(value: object) -> str:
    """A value for a message: short, and what holds others only by its kind."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        cut = "..." if len(value) > _SHOWN_CHARACTERS else ""
        return f'"{value[:_SHOWN_CHARACTERS]}{cut}"'
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return f"an integer of {value.bit_length()} bits"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def wrong(value: object, pointer: str, expected: str) -> SpecError:
    return SpecError(pointer, f"{show(value)} is not {expected}")


def boolean(value: object, pointer: str) -> None:
    if value is not True and value is not False:
        raise wrong(value, pointer, "true or false")


def integer(low: int, high: int) -> "Check":
    """A check for whole numbers of a range."""

    def check(value: object, pointer: str) -> None:
        if type(value) is not int:
            raise wrong(value, pointer, "an integer")
        if not low <= value <= high:
            raise wrong(value, pointer, f"in {low}..{high}")

    return check


UINT16 = integer(0, 0xFFFF)
UINT32 = integer(0, 0xFFFFFFFF)
UINT64 = integer(0, 0xFFFFFFFFFFFFFFFF)
INT64 = integer(-(1 << 63), (1 << 63) - 1)
# A uid or gid of -1 means "leave it" to the kernel.
ID = integer(0, 0xFFFFFFFE)
# -1 is "no limit"
LIMIT = integer(-1, (1 << 63) - 1)


def text(value: object, pointer: str) -> None:
    if type(value) is not str:
        raise wrong(value, pointer, "a string")
    if "\0" in value:
        raise SpecError(pointer, "holds a NUL byte")


def name(value: object, pointer: str) -> None:
    """A string that is not empty."""
    text(value, pointer)
    if not value:
        raise SpecError(pointer, "must not be empty")


def path(value: "Any", pointer: str) -> None:
    """A path, absolute or not, that the kernel can take."""
    name(value, pointer)
    length = len(value.encode())
    if length > PATH_LIMIT_BYTES:
        raise SpecError(pointer, f"{length} bytes, the kernel takes {PATH_LIMIT_BYTES}")


def absolute_path(value: "Any", pointer: str) -> None:
    path(value, pointer)
    if value[0] != "/":
        raise wrong(value, pointer, "an absolute path")


def one_of(*words: str) -> "Check":
    """A check for a string of a closed list."""

    def check(value: object, pointer: str) -> None:
        if type(value) is not str or value not in words:
            raise wrong(value, pointer, f"one of {' '.join(words)}")

    return check


def array(value: object, pointer: str) -> None:
    if type(value) is not list:
        raise wrong(value, pointer, "an array")


def each(check: "Check") -> "Check":
    """A check for an array of what another check takes."""

    def check_all(value: "Any", pointer: str) -> None:
        array(value, pointer)
        for n, item in enumerate(value):
            check(item, f"{pointer}/{n}")

    return check_all


def texts(value: "Any", pointer: str) -> None:
    """An array of strings. Apart from `each`, since a profile holds hundreds of them."""
    array(value, pointer)
    for n, item in enumerate(value):
        if type(item) is not str or "\0" in item:
            text(item, f"{pointer}/{n}")


def secret_texts(value: "Any", pointer: str) -> None:
    """An array of strings for execve, whose values no message shows."""
    array(value, pointer)
    for n, item in enumerate(value):
        if type(item) is not str:
            raise SpecError(f"{pointer}/{n}", "not a string")
        if "\0" in item:
            raise SpecError(f"{pointer}/{n}", "holds a NUL byte")
        # A character takes at most four bytes, so that a short text need not be encoded.
        if len(item) * 4 > STRING_LIMIT_BYTES and len(item.encode()) > STRING_LIMIT_BYTES:
            length = len(item.encode())
            raise SpecError(
                f"{pointer}/{n}", f"{length} bytes, the kernel takes {STRING_LIMIT_BYTES}"
            )


def environment(value: "Any", pointer: str) -> None:
    """An array of `name=value`."""
    secret_texts(value, pointer)
    for n, item in enumerate(value):
        if item.find("=") < 1:
            raise SpecError(f"{pointer}/{n}", "is not of the form name=value")


def obj(value: object, pointer: str) -> None:
    if type(value) is not dict:
        raise wrong(value, pointer, "an object")


def members(
    value: "Any", pointer: str, table: "Mapping[str, Check]", *, required: str = ""
) -> None:
    """Check an object's properties by a table; `required` names those it must have."""
    obj(value, pointer)
    for word in required.split():
        if word not in value:
            raise SpecError(f"{pointer}/{word}", "is missing")
    for word, item in value.items():
        check = table.get(word)
        if check is not None:
            check(item, f"{pointer}/{word}")


def record(
    table: "Mapping[str, Check]", *, required: str = "", then: "Check | None" = None
) -> "Check":
    """A check for an object by a table; `then` looks at what its properties mean together."""

    def check(value: "Any", pointer: str) -> None:
        members(value, pointer, table, required=required)
        if then is not None:
            then(value, pointer)

    return check


def mapping(check: "Check") -> "Check":
    """A check for an object with free names and one kind of values."""

    def check_all(value: "Any", pointer: str) -> None:
        obj(value, pointer)
        for word, item in value.items():
            here = f"{pointer}/{escape(word)}"
            if not word or "\0" in word:
                raise SpecError(here, "the name must not be empty or hold a NUL byte")
            check(item, here)

    return check_all
