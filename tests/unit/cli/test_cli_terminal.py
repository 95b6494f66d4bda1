"""The relay of a terminal, with real ptys and plain programs at their other side."""

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

FOLLOW = (sys.executable, str(Path(__file__).with_name("follow.py")), "--tty")
LIMIT_S = 20


class Outer:
    """Our terminal: the test holds the master, `follow.py` runs on the slave as from a shell."""

    def __init__(self, *words, size=(33, 77), stdout=None, stdin=None):
        self.master, self.slave = os.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        self.process = subprocess.Popen(
            [*FOLLOW, *words],
            stdin=self.slave if stdin is None else stdin,
            stdout=self.slave if stdout is None else stdout,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=self._take,
        )

    def _take(self):
        fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)

    def resize(self, height, width):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def type(self, data):
        os.write(self.master, data)

    def expect(self, text):
        """Read until the text is there; return what came before it."""
        end = time.monotonic() + LIMIT_S
        while text not in self.seen:
            assert select.select([self.master], [], [], max(0, end - time.monotonic()))[0], (
                self.seen
            )
            self.seen += os.read(self.master, 65536)
        before, _, self.seen = self.seen.partition(text)
        return before

    def end(self):
        """The exit code, once what is left to read has been read."""
        end = time.monotonic() + LIMIT_S
        while self.process.poll() is None:
            assert time.monotonic() < end
            if select.select([self.master], [], [], 0.02)[0]:
                self.seen += os.read(self.master, 65536)
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 65536)
        return self.process.returncode

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def outer():
    made = []

    def make(*words, **options):
        made.append(Outer(*words, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def is_raw(terminal):
    return not termios.tcgetattr(terminal.slave)[3] & termios.ICANON


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 9", 9), ("kill -9 $$", 137)])
def test_exit_code_and_restored(outer, script, code):
    """lifecycle 92; raw while it runs, and never after."""
    terminal = outer("sh", "-c", f"echo here; read x; {script}")
    terminal.expect(b"here")
    assert is_raw(terminal)
    terminal.type(b"\r")
    assert terminal.end() == code
    assert termios.tcgetattr(terminal.slave) == terminal.before


def test_restored_after_a_signal(outer):
    terminal = outer("sh", "-c", "echo here; exec sleep 100")
    terminal.expect(b"here")
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.end() == 143
    assert termios.tcgetattr(terminal.slave) == terminal.before


def test_size_at_first_and_later(outer):
    terminal = outer(
        "sh", "-c", "trap 'stty size' WINCH; stty size; while :; do read x; done", size=(33, 77)
    )
    terminal.expect(b"33 77")
    terminal.resize(44, 88)
    terminal.expect(b"44 88")
    terminal.process.send_signal(signal.SIGKILL)


def test_keys_reach_the_program(outer):
    """^C is a byte to us and a signal to the program."""
    terminal = outer(
        "sh", "-c", "trap 'echo caught; exit 4' INT; echo here; while :; do read x; done"
    )
    terminal.expect(b"here")
    terminal.type(b"\x03")
    terminal.expect(b"caught")
    assert terminal.end() == 4


def test_echo_once_and_lines(outer):
    terminal = outer("cat")
    terminal.type(b"abc\r")
    assert terminal.expect(b"abc\r\nabc\r\n") == b""
    terminal.type(b"\x04")
    assert terminal.end() == 0


def test_all_output_of_a_program_that_ends_at_once(outer):
    terminal = outer("sh", "-c", "seq 1 20000")
    assert terminal.end() == 0
    assert terminal.seen.split() == [str(n).encode() for n in range(1, 20001)]


def test_unread_output_does_not_block_input(outer, tmp_path):
    """The program writes more than all buffers hold, nobody reads; a key must still arrive."""
    mark = tmp_path / "mark"
    os.mkfifo(mark)
    script = f"""
import os, sys, threading, tty
tty.setraw(0)
os.write(1, b"here")
threading.Thread(target=lambda: [os.write(1, b"x" * 1000) for _ in range(600)]).start()
key = os.read(0, 1)
with open({str(mark)!r}, "wb") as file:
    file.write(key)
"""
    terminal = outer(sys.executable, "-c", script)
    terminal.expect(b"here")
    # Wait until the output has filled what there is: our terminal holds some and takes no more.
    held, end = -1, time.monotonic() + LIMIT_S
    while held != (held := terminal_holds(terminal)) and time.monotonic() < end:
        time.sleep(0.05)
    terminal.type(b"k")
    reader = os.open(mark, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert select.select([reader], [], [], LIMIT_S)[0]
        assert os.read(reader, 10) == b"k"
    finally:
        os.close(reader)
    assert terminal.end() == 0
    assert terminal.seen.count(b"x") == 600_000


def terminal_holds(terminal):
    return struct.unpack("i", fcntl.ioctl(terminal.master, termios.FIONREAD, bytes(4)))[0]


@pytest.mark.parametrize(
    ("data", "seen"), [(b"", b""), (b"abc\n", b"abc\r\nabc\r\n"), (b"abc", b"abcabc")]
)
def test_end_of_input(data, seen):
    """A program that reads lines sees the end of a pipe; under runc it would wait for ever."""
    done = subprocess.run([*FOLLOW, "cat"], input=data, capture_output=True, timeout=LIMIT_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, seen, b"")


def test_end_of_input_is_no_key():
    """A program that reads keys gets what was typed and no ^D."""
    script = "import os, tty; tty.setraw(0); os.write(1, b'+'); print(os.read(0, 9)); os.abort()"
    process = subprocess.Popen(
        [*FOLLOW, sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout.read(1) == b"+"
        process.stdin.write(b"k")
        process.stdin.close()
        assert process.stdout.readline() == b"b'k'\n"
        assert process.wait(LIMIT_S) == 134


def test_nobody_reads():
    """The program goes on, its code is ours, and the SIGPIPE of our write does not reach it."""
    read, write = os.pipe()
    script = "trap 'exit 99' PIPE; echo here; read x; seq 1 20000; exit 6"
    with subprocess.Popen(
        [*FOLLOW, "sh", "-c", script], stdin=subprocess.PIPE, stdout=write
    ) as process:
        os.close(write)
        assert os.read(read, 4) == b"here"
        os.close(read)
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.wait(LIMIT_S) == 6


def test_terminal_still_held():
    """Somebody else has the terminal open, and no session ends: the end is told all the same."""
    script = "sleep 100 & echo $!; exit 3"
    words = [FOLLOW[0], FOLLOW[1], "--held", "sh", "-c", script]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S)
    os.kill(int(done.stdout), signal.SIGKILL)
    assert done.returncode == 3


def test_program_that_closes_its_terminal(outer):
    """No busy loop, and its code."""
    terminal = outer("sh", "-c", "exec <&- >&- 2>&-; exec sleep 0.3")
    started = os.times()
    assert terminal.end() == 0
    assert os.times().children_user - started.children_user < 0.25


def test_flags_of_our_stdio_are_left_alone(outer):
    terminal = outer("sh", "-c", "echo here; read x")
    terminal.expect(b"here")
    assert not fcntl.fcntl(terminal.slave, fcntl.F_GETFL) & os.O_NONBLOCK
    terminal.type(b"\r")
    assert terminal.end() == 0
