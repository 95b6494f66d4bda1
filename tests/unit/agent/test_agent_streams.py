"""Outputs and inputs of the agent, with a link that only records (docs/vm.md "The link")."""

import os

from skerry.agent.streams import Input, Output
from skerry.rpc import frames
from skerry.rpc.loop import Loop


class Record:
    def __init__(self):
        self.sent, self.granted = [], 0

    def send(self, kind, stream, payload=b""):
        self.sent.append((kind, stream, bytes(payload)))

    def grant(self, stream, size):
        self.granted += size


def turn(loop: Loop, times: int = 5) -> None:
    """Rounds of the loop that wait for nothing."""
    for _ in range(times):
        loop.call_later(0, lambda: None)
        loop.turn()


def output():
    loop, link = Loop(), Record()
    reader, writer = os.pipe()
    out = Output(loop, link, 7)
    out.begin(reader)
    return loop, link, out, writer


def test_nothing_is_read_without_credit():
    loop, link, out, writer = output()
    os.write(writer, b"abcdef")
    turn(loop)
    assert link.sent == []
    out.add_credit(4)
    turn(loop)
    assert link.sent == [(frames.DATA, 7, b"abcd")]
    out.add_credit(4)
    turn(loop)
    assert link.sent[1:] == [(frames.DATA, 7, b"ef")]
    os.close(writer)
    turn(loop)
    assert link.sent[2:] == [(frames.CLOSE, 7, b"")]
    assert out.ended.done


def test_a_frame_is_never_too_long():
    loop, link, out, writer = output()
    os.write(writer, b"x" * 65536)
    out.add_credit(1 << 20)
    turn(loop)
    assert [len(payload) for _, _, payload in link.sent] == [frames.DATA_LIMIT_BYTES] * 2


def test_a_closed_pipe_without_credit_does_not_spin():
    loop, link, out, writer = output()
    os.close(writer)
    turn(loop)
    assert link.sent == []
    out.add_credit(1)
    turn(loop)
    assert link.sent == [(frames.CLOSE, 7, b"")]


def test_finish_takes_what_is_there_and_no_more():
    loop, link, out, writer = output()
    os.write(writer, b"before")
    out.finish()
    os.write(writer, b"after")
    turn(loop)
    assert link.sent == []
    out.add_credit(100)
    turn(loop)
    assert link.sent == [(frames.DATA, 7, b"before"), (frames.CLOSE, 7, b"")]
    os.close(writer)


def test_finish_of_an_empty_pipe_is_the_end():
    _, link, out, writer = output()
    out.finish()
    assert link.sent == [(frames.CLOSE, 7, b"")]
    os.close(writer)


def test_stop_says_so_once():
    _, link, out, writer = output()
    out.stop()
    out.stop()
    assert link.sent == [(frames.CLOSE, 7, b"")]
    os.close(writer)


def stdin():
    loop, link = Loop(), Record()
    reader, writer = os.pipe()
    into = Input(loop, link, 3)
    into.begin(writer)
    return loop, link, into, reader


def test_input_is_credited_as_it_goes():
    _, link, into, reader = stdin()
    assert link.granted == frames.WINDOW_BYTES
    into.take(b"abc")
    assert link.granted == frames.WINDOW_BYTES + 3
    assert os.read(reader, 10) == b"abc"


def test_input_of_a_full_pipe_waits():
    loop, link, into, reader = stdin()
    for _ in range(4):
        into.take(b"x" * 32768)
    assert link.granted == frames.WINDOW_BYTES + 65536
    into.close()
    got = b""
    while chunk := os.read(reader, 65536):
        got += chunk
        turn(loop, 2)
    assert len(got) == 4 * 32768


def test_input_that_nobody_reads_is_dropped():
    _, link, into, reader = stdin()
    os.close(reader)
    into.take(b"abc")
    into.take(b"abc")
    into.close()
    assert link.granted == frames.WINDOW_BYTES
