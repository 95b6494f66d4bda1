"""The frames of a link: a header of eight bytes and a payload.

Runs in: vmshim, container shim, agent; pure.   Imports: struct; errors.
Source:  docs/vm.md "The link".
Never:   reads or writes; link.py does.

    kind u8, zero u8, stream u16, length u32, all little-endian; then `length` bytes

A peer may be hostile: a header is judged before anything is kept for its payload.
"""

import struct

from skerry.errors import RpcError

HEADER = struct.Struct("<BBHI")

CONTROL = 1  # one JSON document; stream 0
DATA = 2  # bytes of a stream
CREDIT = 3  # u32: so many more bytes of this stream may be sent
CLOSE = 4  # the sender has nothing more for this stream

CREDIT_FORMAT = struct.Struct("<I")
CONTROL_STREAM = 0
STREAM_LIMIT = 0xFFFF
DATA_LIMIT_BYTES = 32 * 1024
# What a receiver grants when a stream opens. Two halves: one on its way while the other is being written.
WINDOW_BYTES = 2 * DATA_LIMIT_BYTES


def encode(kind: int, stream: int, payload: "bytes | memoryview" = b"") -> bytes:
    """One frame."""
    return HEADER.pack(kind, 0, stream, len(payload)) + payload


def credit(stream: int, size: int) -> bytes:
    """The frame that lets the peer send `size` more bytes of the stream."""
    return encode(CREDIT, stream, CREDIT_FORMAT.pack(size))


class Reader:
    """Cuts what arrives into frames.

    control_limit   the longest CONTROL payload that is taken, in bytes
    """

    __slots__ = ("_buffer", "_limits")

    def __init__(self, control_limit: int) -> None:
        self._buffer = bytearray()
        # kind -> (least, most) bytes of payload
        self._limits = {
            CONTROL: (2, control_limit),
            DATA: (1, DATA_LIMIT_BYTES),
            CREDIT: (CREDIT_FORMAT.size, CREDIT_FORMAT.size),
            CLOSE: (0, 0),
        }

    def feed(self, data: bytes) -> "list[tuple[int, int, bytes]]":
        """Frames that are whole now, as (kind, stream, payload).

        Errors  RpcError for a header that no peer of ours writes; the link is of no use then.
        """
        buffer = self._buffer
        buffer += data
        found = []
        start = 0
        while len(buffer) - start >= HEADER.size:
            kind, zero, stream, length = HEADER.unpack_from(buffer, start)
            least, most = self._limits.get(kind, (1, 0))
            if (
                zero
                or not least <= length <= most
                or (stream == CONTROL_STREAM) != (kind == CONTROL)
            ):
                raise RpcError(f"bad frame: kind {kind}, stream {stream}, {length} bytes")
            end = start + HEADER.size + length
            if len(buffer) < end:
                break
            found.append((kind, stream, bytes(buffer[start + HEADER.size : end])))
            start = end
        del buffer[:start]
        return found

    def pending(self) -> bool:
        """Whether a part of a frame is held: at end of file the peer was cut off."""
        return bool(self._buffer)
