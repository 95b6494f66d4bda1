"""A link over a socket pair: order, back pressure, ends."""

import os
import socket

import pytest

from skerry.errors import RpcError
from skerry.rpc import frames
from skerry.rpc.link import Link
from skerry.rpc.loop import Loop

LIMIT = 4096


class End:
    """One end that remembers what happened."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self.frames: list[tuple[int, int, bytes]] = []
        self.ended: list[RpcError | None] = []
        self.link = Link(
            loop,
            sock.detach(),
            on_frame=lambda *frame: self.frames.append(frame),
            on_end=self.ended.append,
            control_limit=LIMIT,
        )


@pytest.fixture
def loop() -> Loop:
    return Loop()


def until(loop: Loop, question: object) -> None:
    for _ in range(2000):
        if question():  # type: ignore[operator]
            return
        loop.turn()
    raise AssertionError("it never came")


def test_frames_arrive_in_order_and_whole(loop: Loop) -> None:
    ours, theirs = (End(loop, sock) for sock in socket.socketpair())
    sent = [(frames.DATA, 1 + n % 5, bytes([n % 256]) * frames.DATA_LIMIT_BYTES) for n in range(50)]
    for frame in sent:
        ours.link.send(*frame)
    ours.link.send_json({"event": "é"})
    until(loop, lambda: len(theirs.frames) == 51)
    assert theirs.frames == [*sent, (frames.CONTROL, 0, b'{"event":"\xc3\xa9"}')]


def test_an_orderly_end_is_no_error(loop: Loop) -> None:
    ours, theirs = (End(loop, sock) for sock in socket.socketpair())
    ours.link.close()
    assert not ours.link.open
    until(loop, lambda: theirs.ended)
    assert theirs.ended == [None]
    assert not ours.ended


def test_an_end_within_a_frame_is_one(loop: Loop) -> None:
    raw, sock = socket.socketpair()
    theirs = End(loop, sock)
    raw.send(frames.encode(frames.DATA, 1, b"abc")[:5])
    raw.close()
    until(loop, lambda: theirs.ended)
    assert "within a frame" in str(theirs.ended[0])


def test_a_bad_frame_ends_the_link(loop: Loop) -> None:
    raw, sock = socket.socketpair()
    theirs = End(loop, sock)
    raw.send(os.urandom(1) + b"\xff" * 100)
    until(loop, lambda: theirs.ended)
    assert "bad frame" in str(theirs.ended[0])
    assert not theirs.link.open
    raw.close()


def test_a_peer_that_takes_nothing_costs_bounded_memory(loop: Loop) -> None:
    raw, sock = socket.socketpair()
    ours = End(loop, sock)
    payload = b"x" * frames.DATA_LIMIT_BYTES
    for _ in range(1000):
        ours.link.send(frames.DATA, 1, payload)
    assert "takes nothing" in str(ours.ended[0])
    raw.close()
