"""SEND, RECV and GATE: what is said, and to whom."""

import errno
import os
import signal
import socket
import struct

import pytest
from assembler import Label, Plan, packet

from skerry.plan import ops


def echo(plan: Plan, capacity: int, value: int = 0):
    """Receive into a room of this capacity and print the room; the register is the exit status."""
    room = plan.room(capacity + 8)
    register = plan.register()
    plan.op("RECV", ops.REPLY, room, capacity, to=register)
    plan.op("WRITE", 1, room, capacity + 8)
    plan.call("exit_group", register)
    return room


def test_send_says_who_and_where(start):
    plan = Plan()
    plan.process = 3
    plan.call("umask", 0)
    plan.op("SEND", ops.FD, 1 << 40, -1)
    record = start(plan).record()
    assert (record.kind, record.operation, record.errno) == (ops.FD, 1, 0)
    assert (record.process, record.value, record.rest) == (3, 1 << 40, b"")


def test_send_passes_one_fd(start):
    plan = Plan()
    fd = plan.register()
    plan.call("openat", -100, plan.blob("/dev/zero"), os.O_RDONLY, 0, to=fd)
    plan.op("SEND", ops.FD, 5, fd)
    run = start(plan)
    record, fds = run.record_with_fds()
    try:
        assert (record.kind, record.value, len(fds)) == (ops.FD, 5, 1)
        assert os.fstat(fds[0]).st_rdev == os.makedev(1, 5)
    finally:
        for fd in fds:
            os.close(fd)
    assert run.wait() == 0


def test_send_to_nobody_is_an_error(perform):
    plan = Plan()
    plan.op("SEND", ops.READY, 0, -1)
    assert perform(plan.encode(-1)) == (1, None)


@pytest.mark.parametrize("fd", [-1, 0])
def test_send_when_the_parent_is_gone(start, fd):
    """EPIPE, with or without an fd (a packet socket raises no SIGPIPE); nothing goes on."""
    plan = Plan()
    plan.op("RECV", ops.GO, 0, 0, fail="IGNORE")
    plan.op("SEND", ops.READY, 0, fd)
    plan.exit(0)
    run = start(plan)
    run.socket.shutdown(socket.SHUT_RD)
    run.say("GO")
    assert run.wait() == 1


@pytest.mark.parametrize(
    ("rest", "room"),
    [(b"", b"\0" + b"\xee" * 7), (b"abc", b"abc\0" + b"\xee" * 4), (b"12345678", b"12345678")],
)
def test_recv_copies_what_follows(start, rest, room):
    """A zero byte follows where there is room for it, and nothing else changes."""
    plan = Plan()
    at = echo(plan, 8)
    plan.data[at : at + 16] = b"\xee" * 16
    run = start(plan, stdout=-1)
    run.say("REPLY", 17, rest)
    assert run.wait() == 17
    assert run.process.stdout.read() == room + b"\xee" * 8


def test_recv_takes_the_largest_packet(start):
    plan = Plan()
    echo(plan, ops.RECORD_LIMIT_BYTES)
    run = start(plan, stdout=-1)
    run.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    run.say("REPLY", 3, b"x" * ops.RECORD_LIMIT_BYTES)
    assert run.process.stdout.read() == b"x" * ops.RECORD_LIMIT_BYTES + b"\0" * 8
    assert run.wait() == 3


@pytest.mark.parametrize("capacity", [0, 8, ops.RECORD_LIMIT_BYTES])
def test_recv_refuses_what_does_not_fit(start, capacity):
    """V09: a length that does not fit is an error, never a wrap-around."""
    plan = Plan()
    echo(plan, capacity)
    run = start(plan, stdout=-1)
    run.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    run.say("REPLY", 3, b"x" * (capacity + 1))
    assert run.wait() == 1
    assert run.record().errno == errno.EMSGSIZE
    assert run.process.stdout.read() == b""


def test_recv_without_a_room(start):
    plan = Plan()
    plan.op("RECV", ops.GO, 0, 0)
    run = start(plan)
    run.say("GO")
    assert run.wait() == 0
    run = start(plan)
    run.say("GO", 0, b"x")
    assert run.wait() == 1
    assert run.record().errno == errno.EMSGSIZE


@pytest.mark.parametrize("data", [packet("GO"), packet("REPLY")[:-1], b"x"])
def test_recv_wants_the_kind_it_waits_for(start, data):
    plan = Plan()
    plan.op("RECV", ops.REPLY, plan.room(8), 8)
    run = start(plan)
    run.socket.send(data)
    assert run.wait() == 1
    assert run.record().errno == errno.EPROTO


@pytest.mark.parametrize("how", ["abort", "close"])
def test_recv_ends_the_process_without_a_word(start, how):
    """decisions.md 3: a parent that is gone, or says so, ends init."""
    plan = Plan()
    plan.op("RECV", ops.GO, 0, 0, fail="IGNORE")
    plan.exit(0)
    run = start(plan)
    if how == "abort":
        run.say("ABORT")
    else:
        run.socket.shutdown(socket.SHUT_WR)
    assert run.wait() == ops.EXIT_FAILED
    assert run.record() is None


class Gate:
    """A gate as create makes one: a datagram socket that only skerry-init holds, and plans that wait at it."""

    def __init__(self, start, folder) -> None:
        self.start = start
        self.path = str(folder / "gate")

    def run(self, after, mask: bytes | None = b"\xff" * 8, before=None):
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.bind(self.path)
        plan = Plan()
        signals = -1
        if before:
            before(plan)
        if mask is not None:
            signals = plan.register()
            at = plan.blob(mask, 8)
            plan.call("rt_sigprocmask", 0, at, 0, 8)
            plan.call("signalfd4", -1, at, 8, os.O_CLOEXEC, to=signals)
        plan.op("SEND", ops.READY, 0, -1)
        pipe = plan.register()
        plan.op("GATE", ours.fileno(), signals, to=pipe)
        after(plan, pipe)
        run = self.start(plan, fds=[ours.fileno()])
        ours.close()
        assert run.record().kind == ops.READY
        return run

    def open(self, *fds: int, data: bytes = b"s") -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(self.path)
            if fds:
                socket.send_fds(sender, [data], list(fds))
            else:
                sender.send(data)


@pytest.fixture
def gate(start, tmp_path):
    return Gate(start, tmp_path)


def read_all(fd: int) -> bytes:
    data = b""
    while piece := os.read(fd, 4096):
        data += piece
    os.close(fd)
    return data


def test_gate_answers_and_goes_on(gate):
    """decisions.md 4: + on the pipe, then its end when the process ends."""
    run = gate.run(lambda plan, pipe: plan.exit(6))
    reader, writer = os.pipe()
    gate.open(writer)
    os.close(writer)
    assert read_all(reader) == b"+"
    assert run.wait() == 6


def test_gate_gives_the_pipe(gate):
    run = gate.run(lambda plan, pipe: plan.write(pipe, b"hello"))
    reader, writer = os.pipe()
    gate.open(writer)
    os.close(writer)
    assert read_all(reader) == b"+hello"
    assert run.wait() == 0


def test_failures_after_the_gate_go_to_the_pipe(gate):
    run = gate.run(lambda plan, pipe: plan.call("execve", plan.blob("/nonexistent"), 0, 0))
    reader, writer = os.pipe()
    gate.open(writer)
    os.close(writer)
    answer = read_all(reader)
    kind, _, number, _, _ = struct.unpack(ops.RECORD_FORMAT, answer[1:])
    assert (answer[:1], kind, number) == (b"+", ops.FAILED, errno.ENOENT)
    assert run.record() is None
    assert run.wait() == ops.EXIT_FAILED


def test_the_pipe_is_closed_by_execve(gate):
    """MSG_CMSG_CLOEXEC: the program gets neither the pipe nor the gate (P01)."""
    arguments = ("sh", "-c", "ls /proc/self/fd; exec sleep 1000")

    def become(plan, pipe):
        plan.call("execve", plan.blob("/bin/sh"), plan.strings(arguments), plan.strings([]))

    run = gate.run(become, mask=None)
    reader, writer = os.pipe()
    gate.open(writer)
    os.close(writer)
    assert read_all(reader) == b"+"
    assert run.process.poll() is None


@pytest.mark.parametrize("count", [0, 2, 253])
def test_gate_waits_on_after_a_wrong_datagram(gate, count):
    """Nothing, too much and far too much: closed, ignored, and the gate still stands."""
    run = gate.run(lambda plan, pipe: plan.exit(6))
    reader, writer = os.pipe()
    gate.open(*[writer] * count)
    os.close(writer)
    if count:
        assert read_all(reader) == b""
    else:
        os.close(reader)
    reader, writer = os.pipe()
    gate.open(writer)
    os.close(writer)
    assert read_all(reader) == b"+"
    assert run.wait() == 6


def test_gate_survives_a_start_that_died(gate):
    """SIGPIPE of the answer is taken back; the next start wins."""
    run = gate.run(lambda plan, pipe: plan.exit(6))
    reader, writer = os.pipe()
    os.close(reader)
    gate.open(writer)
    os.close(writer)
    reader, writer = os.pipe()
    gate.open(writer)
    os.close(writer)
    assert read_all(reader) == b"+"
    assert run.wait() == 6


def test_of_two_starts_one_wins(gate):
    """lifecycle 90: the other sees the end without a +."""
    run = gate.run(lambda plan, pipe: plan.exit(0))
    os.kill(run.process.pid, signal.SIGSTOP)
    pairs = [os.pipe() for _ in range(2)]
    for _, writer in pairs:
        gate.open(writer)
        os.close(writer)
    os.kill(run.process.pid, signal.SIGCONT)
    assert [read_all(reader) for reader, _ in pairs] == [b"+", b""]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGPIPE", "SIGRTMAX"])
def test_a_signal_at_the_gate_ends_the_process(gate, name):
    """decisions.md 5."""
    number = getattr(signal, name)
    run = gate.run(lambda plan, pipe: plan.exit(0))
    os.kill(run.process.pid, number)
    assert run.wait() == 128 + number
    assert run.record() is None


@pytest.mark.parametrize("name", ["SIGCHLD", "SIGURG", "SIGWINCH", "SIGCONT", "SIGTSTP"])
def test_a_harmless_signal_does_not(gate, name):
    run = gate.run(lambda plan, pipe: plan.exit(6))
    os.kill(run.process.pid, getattr(signal, name))
    reader, writer = os.pipe()
    gate.open(writer)
    os.close(writer)
    assert read_all(reader) == b"+"
    assert run.wait() == 6


def test_a_stop_does_not_disturb_the_gate(gate):
    run = gate.run(lambda plan, pipe: plan.exit(6), mask=None)
    os.kill(run.process.pid, signal.SIGSTOP)
    os.waitpid(run.process.pid, os.WUNTRACED)
    os.kill(run.process.pid, signal.SIGCONT)
    reader, writer = os.pipe()
    gate.open(writer)
    os.close(writer)
    assert read_all(reader) == b"+"
    assert run.wait() == 6


def test_gate_on_no_socket_fails(perform):
    plan = Plan()
    away = Label()
    plan.op("GATE", 0, -1, fail="JUMP", errnos=(errno.ENOTSOCK,), target=away)
    plan.exit(1)
    plan.here(away)
    plan.exit(4)
    assert perform(plan) == (4, None)
