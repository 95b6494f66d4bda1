"""QMP with a QEMU that lies: whatever it says is bounded, judged, and never waited for without end."""

import _socket
import json
import os
import time
from collections.abc import Iterator

import pytest

from skerry.errors import RpcError
from skerry.linux.fd import recv_with_fds
from skerry.vm.qmp import LINE_LIMIT_BYTES, Qmp, QmpError

GREETING = {"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": []}}


class Liar:
    """The other end: it says what a test tells it to, whatever it is asked."""

    def __init__(self) -> None:
        ours, self.sock = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self.sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, 4 * LINE_LIMIT_BYTES)
        self.qmp = Qmp(ours, limit_s=0.2)

    def say(self, *documents: object) -> None:
        for document in documents:
            raw = document if isinstance(document, bytes) else json.dumps(document).encode() + b"\r\n"
            self.sock.sendall(raw)

    def heard(self) -> list[dict]:
        self.sock.setblocking(False)
        return [json.loads(line) for line in self.sock.recv(65536).splitlines()]


@pytest.fixture
def liar() -> Iterator[Liar]:
    liar = Liar()
    yield liar
    liar.qmp.close()
    liar.sock.close()


def test_begins_with_the_capabilities(liar: Liar) -> None:
    liar.say(GREETING, {"return": {}, "id": 1})
    liar.qmp.begin()
    assert liar.heard() == [{"execute": "qmp_capabilities", "id": 1}]


def test_answers_and_errors(liar: Liar) -> None:
    liar.say({"return": [1, 2], "id": 1})
    assert liar.qmp.execute("query-x", {"a": 1}) == [1, 2]
    liar.say({"error": {"class": "GenericError", "desc": "no such\n\x1bthing"}, "id": 2})
    with pytest.raises(QmpError) as failure:
        liar.qmp.execute("device_add")
    assert failure.value.kind == "GenericError"
    assert str(failure.value) == "cannot device_add: no such\\n\\x1bthing"


def test_fds_ride_along(liar: Liar) -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    liar.say({"return": {}, "id": 1})
    liar.qmp.execute("add-fd", {"fdset-id": 1}, [fd])
    data, fds = recv_with_fds(liar.sock, 65536)
    assert json.loads(data)["execute"] == "add-fd" and len(fds) == 1
    assert os.path.sameopenfile(fd, fds[0])
    for each in (fd, *fds):
        os.close(each)


@pytest.mark.parametrize("answer_first", [True, False])
def test_an_event_is_heard_before_and_after_an_answer(liar: Liar, answer_first: bool) -> None:
    event = {"event": "DEVICE_DELETED", "data": {"device": "disk1dev", "path": "/x"}}
    other = {"event": "DEVICE_DELETED", "data": {"path": "/machine/disk1"}}
    answer = {"return": {}, "id": 1}
    gone = liar.qmp.until("DEVICE_DELETED", device="disk1dev")
    liar.say(other, *((answer, event) if answer_first else (event, answer)))
    liar.qmp.execute("device_del", {"id": "disk1dev"})
    # Nothing more comes: what was read already must not lie about unheard.
    assert gone.done and gone.value["path"] == "/x"


def test_an_event_by_the_loop(liar: Liar) -> None:
    future = liar.qmp.until("MIGRATION", status="completed")
    liar.say({"event": "MIGRATION", "data": {"status": "active"}}, {"event": "MIGRATION"}, {"event": "MIGRATION", "data": 7})
    liar.qmp.pump()
    assert not future.done
    liar.say({"event": "MIGRATION", "data": {"status": "completed"}})
    liar.qmp.pump()
    assert future.done


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (b"\n", "does not speak JSON"),
        (b"rubbish\n", "does not speak JSON"),
        (b"\xff\xfe\x00\n", "does not speak JSON"),
        (b"[1]\n", "does not speak QMP"),
        (b"null\n", "does not speak QMP"),
        (b"[" * 100_000 + b"\n", "does not speak JSON"),
        ({"return": {}}, "nobody asked"),
        ({"return": {}, "id": 7}, "nobody asked"),
        ({"return": {}, "id": "1"}, "nobody asked"),
        ({"error": "no", "id": 1}, "neither answer nor error"),
        ({"id": 1}, "neither answer nor error"),
        (b'{"return": {}, "id": 1', "within 0.2 s"),
        (b"", "within 0.2 s"),
        (b'{"event": "X"}\n' * 1000, "within 0.2 s"),
    ],
)
def test_lies(liar: Liar, words: object, why: str) -> None:
    if words:
        liar.say(words)
    begun = time.monotonic()
    with pytest.raises(RpcError, match=why):
        liar.qmp.execute("query-status")
    assert time.monotonic() - begun < 2


def test_a_line_without_end_is_not_kept(liar: Liar) -> None:
    liar.sock.setblocking(False)
    chunk = b'{"return": "' + b"x" * LINE_LIMIT_BYTES
    with pytest.raises(RpcError, match="at once"):
        for _ in range(64):
            try:
                liar.sock.send(chunk)
            except BlockingIOError:
                pass
            liar.qmp.pump()


def test_the_end_is_told(liar: Liar) -> None:
    liar.sock.close()
    for ask in (liar.qmp.pump, lambda: liar.qmp.execute("quit"), liar.qmp.begin):
        with pytest.raises(RpcError, match="gone|takes no commands"):
            ask()


def test_a_wrong_greeting(liar: Liar) -> None:
    liar.say({"QMP": 1})
    with pytest.raises(RpcError, match="greets"):
        liar.qmp.begin()


def test_who_no_longer_waits_is_forgotten(liar: Liar) -> None:
    future = liar.qmp.until("DEVICE_DELETED")
    future.fail(RpcError("too late"))
    liar.say({"event": "DEVICE_DELETED"})
    liar.qmp.pump()
    assert liar.qmp._waiting == []
