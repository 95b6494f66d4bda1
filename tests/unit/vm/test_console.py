"""A guest's console is hostile text."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.rpc.loop import Loop
from skerry.vm.console import LINE_BYTES, LINES, Console


class Wire:
    def __init__(self, log_fd: int = -1) -> None:
        self.loop = Loop()
        fd, self.guest = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.console = Console(self.loop, fd, log_fd=log_fd)

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.guest, data[:4096]) :]
            self.loop.turn()


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.console.close()
    os.close(wire.guest)


def test_lines(wire: Wire) -> None:
    wire.write(b"[ 0.1] one\r\n[ 0.2] two\r\n\r\nhalf a li")
    assert wire.console.tail() == ["[ 0.1] one", "[ 0.2] two", "half a li"]
    wire.write(b"ne\n")
    assert wire.console.tail(1) == ["half a line"]


def test_nothing_of_it_reaches_a_terminal(wire: Wire) -> None:
    wire.write(b"\x1b[2J\x1b]0;owned\x07 \x00\x08 \xff\xfe \xe2\x80\xae txt\n")
    (line,) = wire.console.tail()
    assert line.isprintable() and "\\x1b[2J" in line and "\\u202e" in line


def test_it_is_bounded(wire: Wire) -> None:
    for _ in range(50):
        wire.write(b"x" * 100_000)
    assert sum(map(len, wire.console.tail())) <= LINE_BYTES
    wire.write(b"\n" + b"".join(b"line %d\n" % n for n in range(5000)))
    tail = wire.console.tail()
    assert len(tail) == LINES and tail[-1] == "line 4999"
    assert all(len(line) <= LINE_BYTES for line in tail)


def test_what_was_written_before_the_end_is_there(wire: Wire) -> None:
    os.write(wire.guest, b"last words")
    wire.console.close()
    assert wire.console.tail() == ["last words"]


def test_the_log_gets_all_of_it(tmp_path: Path) -> None:
    """lifecycle 143"""
    path = tmp_path / "log"
    wire = Wire(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
    wire.write(b"\x1b[31mred\n" * 1000)
    wire.console.close()
    os.close(wire.guest)
    assert path.read_bytes() == b"\x1b[31mred\n" * 1000


@pytest.mark.parametrize("gone", [True, False])
def test_a_log_that_takes_nothing_stops_nobody(gone: bool) -> None:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    if gone:
        os.close(reader)
    wire = Wire(writer)
    for _ in range(100):
        wire.write(b"y" * 9999 + b"\n")
    assert wire.console.tail(1)[0].startswith("yyy")
    wire.console.close()
    os.close(wire.guest)
    if not gone:
        os.close(reader)


def test_a_panic_is_told_without_its_trace(wire: Wire) -> None:
    """lifecycle 143"""
    wire.write(b"one\ntwo\nlast words\n[ 1.0] Kernel panic - not syncing: why\n" + b"trace\n" * 20)
    assert wire.console.last_words(4) == ["two", "last words", "[ 1.0] Kernel panic - not syncing: why"]
    assert wire.console.last_words(1) == ["[ 1.0] Kernel panic - not syncing: why"]


def test_the_last_words_of_others_are_the_last_lines(wire: Wire) -> None:
    wire.write(b"one\ntwo\nthree\n")
    assert wire.console.last_words(2) == ["two", "three"]
