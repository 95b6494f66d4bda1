"""Frames and connections: bounds first."""

import socket
import struct
import time

import pytest

from skerry.shims.task import messages, protobuf, ttrpc
from skerry.shims.task.loop import Loop

HEADER = struct.Struct(">IIBB")


def request(stream: int, method: str = "Echo", *, kind: int = 1, **more: object) -> bytes:
    body = protobuf.encode(messages.REQUEST, {"service": "s", "method": method, **more})
    return HEADER.pack(len(body), stream, kind, 0) + body


class Server:
    """A connection whose loop turns when it is asked to."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.loop = Loop(self.failures.append)
        self.client, ours = socket.socketpair()
        self.client.settimeout(5)
        self.calls: list[ttrpc.Call] = []
        self.closed = 0
        self.connection = ttrpc.Connection(self.loop, ours, self.serve, self.on_closed)

    def serve(self, call: ttrpc.Call) -> None:
        self.calls.append(call)
        if call.method == "Echo":
            call.reply(messages.CONTAINER_ID, {"id": "echo"})

    def on_closed(self, connection: ttrpc.Connection) -> None:
        self.closed += 1

    def turn(self, times: int = 3) -> None:
        for _ in range(times):
            self.loop.call_later(0, lambda: None)
            self.loop.turn()

    def answer(self) -> tuple[int, dict]:
        head = self.client.recv(HEADER.size, socket.MSG_WAITALL)
        length, stream, kind, _ = HEADER.unpack(head)
        assert kind == 2
        return stream, protobuf.decode(
            messages.RESPONSE, self.client.recv(length, socket.MSG_WAITALL) if length else b""
        )


@pytest.fixture
def server():
    made = Server()
    yield made
    assert not made.failures
    made.connection.close()
    made.client.close()


def test_frames_come_in_any_pieces():
    data = request(1) + request(3, "Other") + HEADER.pack(0, 5, 1, 0)
    for size in (1, 3, 7, len(data)):
        frames = ttrpc.Frames()
        found = [f for n in range(0, len(data), size) for f in frames.feed(data[n : n + size])]
        assert [stream for stream, _, _ in found] == [1, 3, 5]
        assert found[2] == (5, 1, b"")


def test_a_body_that_is_too_long_is_skipped_and_refused(server):
    size = ttrpc.BODY_LIMIT_BYTES + 1
    server.client.sendall(HEADER.pack(size, 7, 1, 0))
    server.client.settimeout(5)
    for _ in range(0, size, 1 << 16):
        server.client.sendall(b"x" * min(1 << 16, size))
        server.turn(2)
        size -= 1 << 16
    server.client.sendall(request(9))
    server.turn(8)
    assert server.answer()[1]["status"]["code"] == ttrpc.EXHAUSTED
    assert server.answer() == (9, {"status": None, "payload": b"\x0a\x04echo"})


def test_a_length_of_four_gigabytes_keeps_nothing(server):
    frames = ttrpc.Frames()
    assert frames.feed(HEADER.pack(0xFFFFFFFF, 1, 1, 0)) == []
    for _ in range(1000):
        assert frames.feed(b"z" * 65536) == []
        assert len(frames._buffer) == 0


@pytest.mark.parametrize("stream", [0, 2])
def test_an_even_stream_is_refused(server, stream):
    server.client.sendall(request(stream))
    server.turn()
    assert server.answer()[1]["status"]["code"] == ttrpc.INVALID


def test_a_stream_that_is_in_use_is_refused(server):
    server.client.sendall(request(1, "Wait") + request(1))
    server.turn()
    assert server.answer()[1]["status"]["code"] == ttrpc.INVALID
    assert len(server.calls) == 1


def test_rubbish_in_a_body_is_refused_and_the_connection_lives(server):
    body = b"\x0a\xff\xff"
    server.client.sendall(HEADER.pack(len(body), 1, 1, 0) + body + request(3))
    server.turn()
    assert server.answer()[1]["status"]["code"] == ttrpc.INVALID
    assert server.answer()[0] == 3


def test_data_frames_are_ignored(server):
    server.client.sendall(request(1, kind=3) + request(3))
    server.turn()
    assert server.answer()[0] == 3


def test_calls_that_wait_are_counted(server):
    for number in range(ttrpc.CALLS_LIMIT + 1):
        server.client.sendall(request(2 * number + 1, "Wait"))
        server.turn(1)
    server.turn()
    assert len(server.calls) == ttrpc.CALLS_LIMIT
    assert server.answer()[1]["status"]["code"] == ttrpc.EXHAUSTED


def test_answers_come_in_any_order(server):
    server.client.sendall(request(1, "Wait") + request(3, "Wait"))
    server.turn()
    first, second = server.calls
    second.reply(messages.CONTAINER_ID, {"id": "2"})
    first.fail(ttrpc.NOT_FOUND, "gone\nfor good")
    server.turn()
    assert server.answer() == (3, {"status": None, "payload": b"\x0a\x012"})
    stream, response = server.answer()
    assert stream == 1 and response["status"] == {"code": 5, "message": "gone\\nfor good"}
    second.reply(messages.CONTAINER_ID, {"id": "again"})
    server.turn()
    server.client.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.client.recv(1)


def test_a_reader_that_stops_is_not_read_from(server):
    """10 M tiny frames, none of whose answers is taken: what we keep stays below its limit."""
    server.client.setblocking(False)
    burst = b"".join(request(2 * n + 1) for n in range(1000))
    sent = 0
    for _ in range(20_000):
        try:
            sent += server.client.send(burst[sent % len(burst) :])
        except BlockingIOError:
            server.turn(1)
            if len(server.connection._out) >= ttrpc.UNREAD_LIMIT_BYTES:
                break
    kept = len(server.connection._out)
    assert ttrpc.UNREAD_LIMIT_BYTES <= kept < 2 * ttrpc.UNREAD_LIMIT_BYTES
    calls = len(server.calls)
    server.turn(50)
    assert len(server.calls) == calls and len(server.connection._out) == kept


def test_a_deadline(server):
    ended = []
    server.client.sendall(request(1, "Wait", timeout_nano=20_000_000))
    server.turn(1)
    server.calls[0].ended = lambda: ended.append(1)
    start = time.monotonic()
    while not ended:
        server.loop.turn()
    assert time.monotonic() - start < 2
    assert server.answer()[1]["status"]["code"] == ttrpc.DEADLINE


def test_a_peer_that_goes_abandons_its_calls(server):
    ended = []
    server.client.sendall(request(1, "Wait"))
    server.turn()
    server.calls[0].ended = lambda: ended.append(1)
    server.client.close()
    server.turn()
    assert ended and server.closed == 1 and not server.calls[0].open
    server.calls[0].reply(messages.EMPTY, {})


def test_a_failing_callback_does_not_end_the_loop():
    failures: list[BaseException] = []
    loop = Loop(failures.append)
    loop.call_later(0, lambda: 1 // 0)
    loop.turn()
    loop.soon(loop.stop)
    loop.run()
    assert [type(error) for error in failures] == [ZeroDivisionError]
