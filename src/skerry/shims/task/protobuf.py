"""The wire format of protocol buffers, driven by tables.

Runs in: the task shim (all of its life).   Imports: struct; errors.
Source:  protobuf.dev "Encoding" and "Updating a message type"; the tables are in messages.py.
Never:   believes a length, a depth or a number that the bytes cannot back.

A message type is a tuple of (number, name, type) rows. A type is one of the words below, a table (a message), or such
in a list (repeated). Decoded messages are dicts with every field of the table: what was not sent has proto3's default.
Fields that no table knows are skipped. Of a field sent twice the last counts; two halves of a message are merged.
"""

import struct

from skerry.errors import RpcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = 0, 1, 2, 3, 4, 5
_U64 = (1 << 64) - 1
_DEPTH_LIMIT = 100  # as in the official libraries
_VARINT_LIMIT_BYTES = 10

# type -> (wire type, default)
SCALARS = {
    "bool": (VARINT, False),
    "int32": (VARINT, 0),
    "int64": (VARINT, 0),
    "uint32": (VARINT, 0),
    "uint64": (VARINT, 0),
    "double": (FIXED64, 0.0),
    "string": (BYTES, ""),
    "bytes": (BYTES, b""),
}


def _varint(data: bytes, at: int) -> "tuple[int, int]":
    """(value, where the next byte is); 64 bits, the rest of the tenth byte is dropped as elsewhere."""
    value = shift = 0
    for byte in data[at : at + _VARINT_LIMIT_BYTES]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _U64, at
        shift += 7
    raise RpcError("cannot read a protobuf message: a number is cut short or too long")


def fields(data: bytes, depth: int = 0) -> "Iterator[tuple[int, int, Any]]":
    """(number, wire type, int or bytes) of each field; groups are skipped.

    Errors  RpcError for what is no message.
    """
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise RpcError(f"cannot read a protobuf message: it has a field {number}")
        if kind == VARINT:
            value, at = _varint(data, at)
            yield number, kind, value
        elif kind == GROUP:
            at = _skip_group(data, at, number, depth + 1)
        else:
            size, at = _size(data, at, kind)
            if size > end - at:
                raise RpcError(f"cannot read a protobuf message: field {number} is cut short")
            yield number, kind, data[at : at + size]
            at += size


def _size(data: bytes, at: int, kind: int) -> "tuple[int, int]":
    """(bytes of the value, where they begin)."""
    if kind == BYTES:
        return _varint(data, at)
    if kind == FIXED64:
        return 8, at
    if kind == FIXED32:
        return 4, at
    raise RpcError(f"cannot read a protobuf message: it has a field of wire type {kind}")


def _skip_group(data: bytes, at: int, number: int, depth: int) -> int:
    """Where the group ends. Nobody makes them any more, but a sender may."""
    if depth > _DEPTH_LIMIT:
        raise RpcError("cannot read a protobuf message: it is nested too deeply")
    while at < len(data):
        tag, at = _varint(data, at)
        inner, kind = tag >> 3, tag & 7
        if not 0 < inner < 1 << 29:
            raise RpcError(f"cannot read a protobuf message: it has a field {inner}")
        if kind == GROUP_END:
            if inner == number:
                return at
            break
        if kind == VARINT:
            _, at = _varint(data, at)
        elif kind == GROUP:
            at = _skip_group(data, at, inner, depth + 1)
        else:
            size, at = _size(data, at, kind)
            at += size
    raise RpcError("cannot read a protobuf message: a group has no end")


def decode(table: "Any", data: bytes, depth: int = 0) -> "dict[str, Any]":
    """Read a message.

    Errors  RpcError.
    """
    if depth > _DEPTH_LIMIT:
        raise RpcError("cannot read a protobuf message: it is nested too deeply")
    message: dict[str, Any] = {}
    rows = {}
    halves: dict[str, bytes] = {}
    for number, name, kind in table:
        rows[number] = name, kind
        message[name] = _default(kind)
    for number, wire, value in fields(data, depth):
        if number not in rows:
            continue
        name, kind = rows[number]
        if type(kind) is list:
            _extend(message[name], kind[0], wire, value, depth)
        elif type(kind) is tuple:
            if wire == BYTES:
                halves[name] = halves.get(name, b"") + value
        elif wire == SCALARS[kind][0]:
            message[name] = _scalar(kind, value)
    for _, name, kind in table:
        if name in halves:
            message[name] = decode(kind, halves[name], depth + 1)
    return message


def _default(kind: "Any") -> "Any":
    if type(kind) is list:
        return []
    return None if type(kind) is tuple else SCALARS[kind][1]


def _extend(values: "list[Any]", kind: "Any", wire: int, value: "Any", depth: int) -> None:
    """One occurrence of a repeated field: an element, or several numbers packed."""
    if type(kind) is tuple:
        if wire == BYTES:
            values.append(decode(kind, value, depth + 1))
        return
    wanted = SCALARS[kind][0]
    if wire == wanted:
        values.append(_scalar(kind, value))
    elif wire == BYTES and wanted == VARINT:
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            values.append(_scalar(kind, number))
    elif wire == BYTES and wanted == FIXED64:
        if len(value) % 8:
            raise RpcError("cannot read a protobuf message: a list of numbers is cut short")
        values.extend(_scalar(kind, value[n : n + 8]) for n in range(0, len(value), 8))


def _scalar(kind: str, value: "Any") -> "Any":
    if kind == "string":
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise RpcError("cannot read a protobuf message: a string is not UTF-8") from None
    if kind == "bool":
        return value != 0
    if kind == "int64":
        return value - (1 << 64) if value >> 63 else value
    if kind == "int32":
        value &= 0xFFFFFFFF
        return value - (1 << 32) if value >> 31 else value
    if kind == "uint32":
        return value & 0xFFFFFFFF
    if kind == "double":
        return struct.unpack("<d", value)[0]
    return value


def encode(table: "Any", message: "dict[str, Any]") -> bytes:
    """Write a message. What equals its default is left out, as proto3 does."""
    parts: list[bytes] = []
    for number, name, kind in table:
        value = message.get(name)
        if not value and not (type(kind) is tuple and value is not None):
            continue
        if type(kind) is list:
            _put_list(parts, number, kind[0], value)
        else:
            _put(parts, number, kind, value)
    return b"".join(parts)


def _put_list(parts: "list[bytes]", number: int, kind: "Any", values: "list[Any]") -> None:
    if type(kind) is str and SCALARS[kind][0] == VARINT:
        packed = b"".join([to_varint(int(value) & _U64) for value in values])
        parts += (to_varint(number << 3 | BYTES), to_varint(len(packed)), packed)
        return
    for value in values:
        _put(parts, number, kind, value)


def _put(parts: "list[bytes]", number: int, kind: "Any", value: "Any") -> None:
    if type(kind) is tuple:
        raw = encode(kind, value)
    elif kind == "string":
        raw = value.encode("utf-8", "replace")
    elif kind == "bytes":
        raw = value
    elif kind == "double":
        parts += (to_varint(number << 3 | FIXED64), struct.pack("<d", value))
        return
    else:
        parts += (to_varint(number << 3 | VARINT), to_varint(int(value) & _U64))
        return
    parts += (to_varint(number << 3 | BYTES), to_varint(len(raw)), raw)


def to_varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
