"""The codec of a link: whole frames however they are cut, and what no peer of ours writes."""

import struct

import pytest

from skerry.errors import RpcError
from skerry.rpc import frames

LIMIT = 1000


def test_a_header_is_eight_bytes_little_endian() -> None:
    assert frames.encode(frames.DATA, 0x0102, b"xy") == b"\x02\x00\x02\x01\x02\x00\x00\x00xy"


@pytest.mark.parametrize("step", [1, 3, 8, 9, 100])
def test_frames_are_found_however_the_bytes_are_cut(step: int) -> None:
    sent = [
        (frames.CONTROL, 0, b"{}"),
        (frames.DATA, 7, b"a" * 20),
        (frames.CLOSE, 7, b""),
        (frames.DATA, 8, b"b"),
    ]
    stream = b"".join(frames.encode(*frame) for frame in sent) + frames.credit(9, 70000)
    reader = frames.Reader(LIMIT)
    found = [
        frame for at in range(0, len(stream), step) for frame in reader.feed(stream[at : at + step])
    ]
    assert found == [*sent, (frames.CREDIT, 9, struct.pack("<I", 70000))]
    assert not reader.pending()


def test_a_part_of_a_frame_is_pending() -> None:
    reader = frames.Reader(LIMIT)
    assert reader.feed(frames.encode(frames.DATA, 1, b"abc")[:-1]) == []
    assert reader.pending()


@pytest.mark.parametrize(
    ("kind", "zero", "stream", "length"),
    [
        (0, 0, 1, 1),
        (5, 0, 1, 1),
        (255, 0, 1, 1),
        (frames.DATA, 1, 1, 1),
        (frames.DATA, 0, 0, 1),
        (frames.DATA, 0, 1, 0),
        (frames.DATA, 0, 1, frames.DATA_LIMIT_BYTES + 1),
        (frames.DATA, 0, 1, 0xFFFFFFFF),
        (frames.CONTROL, 0, 1, 2),
        (frames.CONTROL, 0, 0, 0),
        (frames.CONTROL, 0, 0, LIMIT + 1),
        (frames.CREDIT, 0, 1, 3),
        (frames.CREDIT, 0, 1, 5),
        (frames.CLOSE, 0, 1, 1),
    ],
)
def test_a_header_is_judged_before_its_payload_arrives(
    kind: int, zero: int, stream: int, length: int
) -> None:
    with pytest.raises(RpcError, match="bad frame"):
        frames.Reader(LIMIT).feed(struct.pack("<BBHI", kind, zero, stream, length))


def test_the_longest_payloads_are_taken() -> None:
    reader = frames.Reader(LIMIT)
    data = b"d" * frames.DATA_LIMIT_BYTES
    assert reader.feed(frames.encode(frames.DATA, 1, data)) == [(frames.DATA, 1, data)]
    assert reader.feed(frames.encode(frames.CONTROL, 0, b" " * LIMIT)) == [
        (frames.CONTROL, 0, b" " * LIMIT)
    ]
