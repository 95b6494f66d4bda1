"""JSON, strictly and without the `json` package.

Runs in: every verb (hot).   Imports: _json where it is used; json only to word a refusal.
Source:  RFC 8259; Modules/_json.c of CPython 3.11 to 3.14.
Never:   opens a file.

The C scanner of CPython alone reads a spec in microseconds; `json` around it costs 8 ms to import.
What `json` does for it is done here: blanks at the ends, trailing bytes, constants that are no
JSON, numbers out of range, duplicate names. A text that two programs would read in two ways is
refused, and so is what could not be written back.

`_json` may be a shared library, which a snapshot (docs/decisions/0010) cannot hold: hence no import of
it up here.
"""

from skerry.errors import Error, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Deeper than any document of ours by far, and safely below what recursive code can walk.
DEPTH_LIMIT = 128
# An object of one member takes 8 bytes as text and 200 as a value: a bound on bytes alone bounds no
# memory.
VALUES_LIMIT = 300_000
_BLANKS = " \t\n\r"


class _Refused(ValueError):
    """A hook saw a value that is legal for the scanner and not for us."""


class _Context:
    """What the C scanner asks for; one per document, since it collects the duplicates."""

    __slots__ = ("duplicates",)
    strict = True
    object_hook = None
    parse_int = int

    def __init__(self) -> None:
        # id of a dict with a repeated name -> that name
        self.duplicates: dict[int, str] = {}

    def object_pairs_hook(self, pairs: "list[tuple[str, object]]") -> "dict[str, object]":
        value = dict(pairs)
        if len(value) != len(pairs):
            seen = set()
            for name, _ in pairs:
                if name in seen:
                    self.duplicates[id(value)] = name
                    break
                seen.add(name)
        return value

    @staticmethod
    def parse_float(text: str) -> float:
        number = float(text)
        if number - number != 0.0:
            raise _Refused(f"the number {text[:32]} is out of range")
        return number

    @staticmethod
    def parse_constant(text: str) -> object:
        raise _Refused(f"{text} is not JSON")


def loads(data: bytes, *, what: str = "") -> object:
    """Read one JSON document.

    Shape   dict, list, str, int, float, bool, None; strings are Unicode, names unique, at most
            128 levels and 300,000 values.
    Errors  SpecError; its pointer is "" unless the document parses and one value is at fault.
    """
    from _json import make_scanner

    prefix = f"{what}: " if what else ""
    # Every value but the first is opened by one of these, or by a colon after one.
    opened = data.count(b"{") + data.count(b"[")
    if opened + data.count(b",") > VALUES_LIMIT:
        raise SpecError("", f"{prefix}holds more than {VALUES_LIMIT} values")
    context = _Context()
    try:
        text = data.decode().lstrip(_BLANKS)
        value, end = make_scanner(context)(text, 0)  # type: ignore[arg-type]
    except UnicodeDecodeError as error:
        raise SpecError("", f"{prefix}not UTF-8 at byte {error.start}") from None
    except _Refused as error:
        raise SpecError("", f"{prefix}{error}") from None
    except (StopIteration, SystemError, RecursionError, ValueError) as error:
        # CPython 3.11 raises SystemError where its error class sits in the unloaded `json`
        raise SpecError("", prefix + _why(data, error)) from None
    if end != len(text) and text[end:].strip(_BLANKS):
        raise SpecError("", f"{prefix}not JSON: more follows after the document")
    # The walks are skipped where the bytes show that there is nothing to find.
    if context.duplicates:
        _refuse_duplicates(value, context.duplicates, prefix)
    if opened > DEPTH_LIMIT and isinstance(value, (dict, list)):
        _refuse_depth(value, prefix)
    if b"\\ud" in data or b"\\uD" in data:
        _refuse_surrogates(value, prefix)
    return value


def _why(data: bytes, error: Exception) -> str:
    """Word the refusal of a text that the scanner could not read; off the hot path."""
    if isinstance(error, RecursionError):
        return f"nested deeper than {DEPTH_LIMIT} levels"
    if not data.strip():
        return "not JSON: the document is empty"
    if data.startswith(b"\xef\xbb\xbf"):
        return "not JSON: it starts with a byte order mark"
    import json

    try:
        json.loads(data.decode())
    except json.JSONDecodeError as real:
        message = real.msg[:1].lower() + real.msg[1:]
        return f"not JSON: line {real.lineno} column {real.colno}: {message}"
    except RecursionError:
        return f"nested deeper than {DEPTH_LIMIT} levels"
    except ValueError:
        return "an integer has too many digits"
    return f"not JSON: {type(error).__name__}"


def _refuse_duplicates(value: object, duplicates: "dict[int, str]", prefix: str) -> None:
    for pointer, item in _walk(value):
        if id(item) in duplicates:
            name = duplicates[id(item)]
            raise SpecError(f"{pointer}/{escape(name)}", f"{prefix}the name appears twice")


def _refuse_depth(value: object, prefix: str) -> None:
    level = [value]
    for _ in range(DEPTH_LIMIT):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)  # type: ignore[attr-defined]
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise SpecError("", f"{prefix}nested deeper than {DEPTH_LIMIT} levels")


def _refuse_surrogates(value: object, prefix: str) -> None:
    for pointer, item in _walk(value):
        names = item if isinstance(item, dict) else ()
        for text in (item, *names):
            if isinstance(text, str) and not _is_unicode(text):
                raise SpecError(
                    pointer if text is item else "",
                    f"{prefix}a string holds half of a surrogate pair",
                )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _walk(value: object) -> "Iterator[tuple[str, object]]":
    """Every value with its JSON pointer, in the order of the document."""
    stack = [iter([("", value)])]
    while stack:
        for pointer, item in stack[-1]:
            yield pointer, item
            if isinstance(item, (dict, list)):
                stack.append(_members(pointer, item))
                break
        else:
            stack.pop()


def _members(
    pointer: str, value: "dict[str, object] | list[object]"
) -> "Iterator[tuple[str, object]]":
    names = value.items() if isinstance(value, dict) else enumerate(value)
    for name, child in names:
        yield f"{pointer}/{escape(str(name))}", child


def escape(name: str) -> str:
    """One reference token of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1") if "~" in name or "/" in name else name


def _no_such_type(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def dumps(value: object) -> bytes:
    """Write one document on one line, without blanks; strings keep their letters, in UTF-8.

    Shape   names are strings (a number as name would come back as text, as with `json`).
    Errors  Error for what JSON or Unicode cannot hold; nothing is returned then.
    """
    from _json import encode_basestring, make_encoder

    # No markers (a circle ends as RecursionError), no indent; not sorted, no key skipped, no NaN.
    encoder = make_encoder(
        None, _no_such_type, encode_basestring, None, ":", ",", False, False, False
    )
    try:
        return "".join(encoder(value, 0)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Error(f"cannot write JSON: {_cause(error)}") from None


def _cause(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "a string is not Unicode"
    if isinstance(error, ValueError):
        return "a number is not finite"
    return "nested too deep" if isinstance(error, RecursionError) else str(error)


def dumps_pretty(value: object, indent: int = 2) -> bytes:
    """Write one document as people read it: a line for each member, no newline at the end."""
    try:
        return _pretty(value, "\n", " " * indent).encode()
    except (TypeError, UnicodeEncodeError, RecursionError) as error:
        raise Error(f"cannot write JSON: {_cause(error)}") from None


def _pretty(value: object, newline: str, indent: str) -> str:
    from _json import encode_basestring

    inner = newline + indent
    if isinstance(value, dict) and value:
        members = [
            f"{encode_basestring(name)}: {_pretty(child, inner, indent)}"
            for name, child in value.items()
        ]
        return "{" + inner + f",{inner}".join(members) + newline + "}"
    if isinstance(value, (list, tuple)) and value:
        items = [_pretty(child, inner, indent) for child in value]
        return "[" + inner + f",{inner}".join(items) + newline + "]"
    return dumps(value).decode()
