"""The client of the agent against a guest that is not what it should be: security V55."""

import json
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from skerry.errors import GuestError, RpcError, StateError
from skerry.rpc import frames
from skerry.rpc.loop import Loop
from skerry.vm import check
from skerry.vm.guest import CONTROL_LIMIT_BYTES, CREDIT_LIMIT_BYTES, Guest

HEADER = struct.Struct("<BBHI")


class Evil:
    """The other end of the link, with nothing between it and the test."""

    def __init__(self) -> None:
        self.loop = Loop()
        ours, theirs = socket.socketpair()
        self.sock = theirs
        self.events: list[dict] = []
        self.ends: list[RpcError | None] = []
        self.logged: list[str] = []
        self.guest = Guest(
            self.loop, ours.detach(), on_event=self.events.append, on_end=self.ends.append, log=self.logged.append
        )

    def say(self, document: object) -> None:
        self.frame(frames.CONTROL, 0, json.dumps(document).encode())

    def frame(self, kind: int, stream: int, payload: bytes = b"") -> None:
        self.raw(HEADER.pack(kind, 0, stream, len(payload)) + payload)

    def raw(self, data: bytes) -> None:
        self.sock.sendall(data)
        for _ in range(3):
            self.loop.call_later(0, lambda: None)
            self.loop.turn()

    def violated(self, text: str = "") -> None:
        """Insist that the link is closed, and why."""
        assert not self.guest.open
        assert len(self.ends) == 1 and self.ends[0] is not None and text in str(self.ends[0])


@pytest.fixture
def evil() -> Iterator[Evil]:
    found = Evil()
    yield found
    found.guest.close()
    found.sock.close()


def test_answers_find_their_requests(evil: Evil) -> None:
    first = evil.guest.request(evil.loop, "status", judge=lambda answer: answer)
    second = evil.guest.request(evil.loop, "start", judge=check.pid)
    sent = evil.sock.recv(65536)
    assert b'"op":"status"' in sent and b'"op":"start"' in sent
    evil.say({"id": 2, "ok": {"pid": 12}})
    evil.say({"id": 1, "ok": {"x": 1}})
    assert (first.result(), second.result()) == ({"x": 1}, 12)


def test_errors_keep_their_class(evil: Evil) -> None:
    future = evil.guest.request(evil.loop, "start")
    error = {"kind": "StateError", "message": "cannot start", "id": "c", "status": "stopped", "verb": "start"}
    evil.say({"id": 1, "error": error})
    with pytest.raises(StateError, match="cannot start"):
        future.result()
    future = evil.guest.request(evil.loop, "start")
    evil.say({"id": 2, "error": {"kind": "SystemExit", "message": 7}})
    assert type(future.error).__name__ == "EngineError"


@pytest.mark.parametrize(
    "raw",
    [
        HEADER.pack(1, 0, 0, 0xFFFFFFFF),
        HEADER.pack(1, 0, 0, CONTROL_LIMIT_BYTES + 1),
        HEADER.pack(1, 0, 0, 0),
        HEADER.pack(2, 0, 1, 0),
        HEADER.pack(2, 0, 1, frames.DATA_LIMIT_BYTES + 1),
        HEADER.pack(9, 0, 1, 4),
        HEADER.pack(1, 1, 0, 2),
        HEADER.pack(3, 0, 1, 5),
    ],
    ids=["4 GiB", "over the limit", "empty control", "empty data", "long data", "unknown kind", "not zero", "long credit"],
)
def test_bad_headers_close_the_link(evil: Evil, raw: bytes) -> None:
    """The length is judged before a byte of the payload is there."""
    evil.raw(raw)
    evil.violated("bad frame")


@pytest.mark.parametrize(
    "document",
    [
        {"id": 1, "ok": {}},
        {"id": 0, "ok": {}},
        {"id": -1, "ok": {}},
        {"id": "1", "ok": {}},
        {"id": True, "ok": {}},
        {"event": "format-disk"},
        {"event": ["exit"]},
        {},
        [],
        None,
        "hello",
    ],
)
def test_what_was_never_asked_closes_the_link(evil: Evil, document: object) -> None:
    evil.say(document)
    evil.violated()


def test_bad_json_closes_the_link(evil: Evil) -> None:
    evil.frame(frames.CONTROL, 0, b'{"id": "\xff\xfe"}')
    evil.violated("no JSON")


def test_second_answer_closes_the_link(evil: Evil) -> None:
    evil.guest.request(evil.loop, "status")
    evil.say({"id": 1, "ok": {}})
    evil.say({"id": 1, "ok": {}})
    evil.violated("twice")


def test_whoever_waits_hears_of_the_end(evil: Evil) -> None:
    future = evil.guest.request(evil.loop, "status")
    evil.raw(HEADER.pack(9, 0, 0, 0))
    assert isinstance(future.error, RpcError)
    assert isinstance(evil.guest.request(evil.loop, "status").error, RpcError)


def test_a_deadline_for_each_request(evil: Evil) -> None:
    future = evil.guest.request(evil.loop, "status", limit_s=0.01)
    while not future.done:
        evil.loop.turn()
    assert "did not answer within 0.01 s" in str(future.error)
    assert evil.guest.open


def test_requests_are_bounded(evil: Evil) -> None:
    evil.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    futures = [evil.guest.request(evil.loop, "status") for _ in range(5000)]
    assert any(isinstance(future.error, GuestError) for future in futures)


class TestStreams:
    def test_unknown_stream(self, evil: Evil) -> None:
        evil.frame(frames.DATA, 7, b"x")
        evil.violated("stream 7")

    def test_data_within_the_credit(self, evil: Evil) -> None:
        stream = evil.guest.open_stream(output=True)
        came: list[bytes] = []
        stream.on_data = came.append
        evil.guest.grant(stream, 3)
        evil.frame(frames.DATA, stream.number, b"abc")
        assert came == [b"abc"] and evil.guest.open

    def test_data_beyond_the_credit(self, evil: Evil) -> None:
        stream = evil.guest.open_stream(output=True)
        evil.guest.grant(stream, 3)
        evil.frame(frames.DATA, stream.number, b"abcd")
        evil.violated("more on stream")

    def test_data_on_an_input(self, evil: Evil) -> None:
        stream = evil.guest.open_stream(output=False)
        evil.frame(frames.DATA, stream.number, b"a")
        evil.violated()

    def test_data_after_the_close(self, evil: Evil) -> None:
        stream = evil.guest.open_stream(output=True)
        evil.guest.grant(stream, 3)
        evil.frame(frames.CLOSE, stream.number)
        evil.frame(frames.DATA, stream.number, b"a")
        evil.violated()

    def test_second_close(self, evil: Evil) -> None:
        stream = evil.guest.open_stream(output=True)
        evil.frame(frames.CLOSE, stream.number)
        evil.frame(frames.CLOSE, stream.number)
        evil.violated("twice")

    def test_credit_without_end(self, evil: Evil) -> None:
        stream = evil.guest.open_stream(output=False)
        evil.frame(frames.CREDIT, stream.number, struct.pack("<I", CREDIT_LIMIT_BYTES))
        assert evil.guest.open
        evil.frame(frames.CREDIT, stream.number, struct.pack("<I", 1))
        evil.violated("too much")

    def test_credit_for_an_output(self, evil: Evil) -> None:
        stream = evil.guest.open_stream(output=True)
        evil.frame(frames.CREDIT, stream.number, struct.pack("<I", 1))
        evil.violated()

    def test_numbers_are_not_given_twice(self, evil: Evil) -> None:
        streams = [evil.guest.open_stream(output=True) for _ in range(100)]
        assert len({stream.number for stream in streams}) == 100
        assert all(0 < stream.number <= frames.STREAM_LIMIT for stream in streams)


@pytest.mark.slow
def test_a_flood_of_tiny_frames_takes_no_memory(evil: Evil) -> None:
    log = json.dumps({"event": "log", "level": "info", "message": "x"}).encode()
    flood = (HEADER.pack(1, 0, 0, len(log)) + log) * 500
    evil.raw(flood)
    evil.logged.clear()
    before = _resident()
    for _ in range(200):
        evil.raw(flood)
        evil.logged.clear()
    assert evil.guest.open and _resident() - before < 4 << 20


def test_messages_are_one_printable_line(evil: Evil) -> None:
    evil.say({"event": "log", "level": "info", "message": "a\nb\x1b[31m" + "x" * 100_000})
    assert evil.logged and "\n" not in evil.logged[0] and "\x1b" not in evil.logged[0] and len(evil.logged[0]) <= 500
    evil.say({"event": "log", "message": 7})
    assert evil.guest.open


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("judge", "answer"),
    [
        (check.pid, {"pid": 1 << 40}),
        (check.pid, {"pid": 0}),
        (check.pid, {"pid": "1"}),
        (check.pid, None),
        (check.status, {"status": "unknown"}),
        (check.status, {"status": ["running"]}),
        (check.processes, {"pids": [0], "table": []}),
        (check.processes, {"pids": [1]}),
        (check.processes, {"pids": [1], "table": [{str(n): "x" for n in range(17)}]}),
        (check.stats, {"container": 7}),
        (check.end, {"code": 1 << 40, "signal": 0, "reason": "exit"}),
        (check.end, {"code": 0, "signal": 65, "reason": "exit"}),
        (check.end, {"code": 0, "signal": 0, "reason": "deleted"}),
        (check.end, {"code": True, "signal": 0, "reason": "exit"}),
    ],
)
def test_answers_of_the_wrong_form(judge, answer) -> None:
    with pytest.raises(RpcError):
        judge(answer)


def test_a_wrong_answer_closes_the_link(evil: Evil) -> None:
    future = evil.guest.request(evil.loop, "create", judge=check.pid)
    evil.say({"id": 1, "ok": {"pid": -4}})
    assert isinstance(future.error, RpcError)
    evil.violated("without a pid")


def test_rows_of_ps_are_bounded_and_printable() -> None:
    answer = {"pids": [3, 1], "table": [{"cmd": "a\x1b[0m\n" + "y" * 9000, "pid": 3, "deep": {"x": 1}}]}
    found = check.processes(answer)
    assert found["pids"] == [1, 3]
    assert found["table"][0]["pid"] == "3" and "deep" not in found["table"][0]
    assert len(found["table"][0]["cmd"]) <= 4096 and found["table"][0]["cmd"].isprintable()
