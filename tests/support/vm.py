"""Machines for the tests: the small guest of support/guest, and questions to it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from skerry.rpc import frames
from skerry.rpc.link import Link
from skerry.rpc.loop import Future, Loop
from skerry.vm import machine as machines
from skerry.vm.hardware import Hardware
from skerry.vm.machine import Machine

BOOT_S, ANSWER_S = 60, 30


class Guest:
    """A machine with its small agent at the other end of the link."""

    def __init__(self, loop: Loop, machine: Machine) -> None:
        self.loop, self.machine = loop, machine
        self.ended: list[object] = []
        self._answer = Future()
        self.link = Link(
            loop, machine.take_link(), on_frame=self._take, on_end=self.ended.append, control_limit=256 * 1024
        )

    def _take(self, kind: int, stream: int, payload: bytes) -> None:
        assert (kind, stream) == (frames.CONTROL, 0)
        answer, self._answer = self._answer, Future()
        answer.set(payload)

    def hello(self) -> bytes:
        answer = self._answer
        return self._wait(answer, BOOT_S)

    def _wait(self, answer: Future, limit_s: float) -> bytes:
        self.loop.within(answer, limit_s, "the guest")
        while not answer.done:
            self.loop.turn()
        return answer.result()

    def send(self, command: str) -> Future:
        answer = self._answer
        self.link.send(frames.CONTROL, 0, command.encode())
        return answer

    def run(self, command: str) -> tuple[int, str]:
        """Run a shell command in the guest."""
        code, _, output = self._wait(self.send(command), ANSWER_S).partition(b" ")
        return int(code), output.decode("utf-8", "replace")

    def ok(self, command: str) -> str:
        code, output = self.run(command)
        assert code == 0, f"{command}: {code} {output} console: {self.machine.console.tail(5)}"
        return output

    def until(self, command: str, tries: int = 250) -> None:
        """Wait in the guest until a command succeeds."""
        self.ok(f"n={tries}; until {command}; do n=$((n-1)); test $n -gt 0 || exit 9; sleep 0.01; done")

    def shut_down(self) -> tuple[int, int]:
        self.link.send(frames.CONTROL, 0, b"shutdown")
        self.loop.complete(self.machine.stop(20))
        return self.machine.ended.value

    def end(self) -> None:
        self.link.close()
        self.loop.complete(self.machine.stop())


@contextmanager
def booted(loop: Loop, hardware: Hardware, **options: object) -> Iterator[Guest]:
    """A machine that boots, up to the hello of its agent."""
    guest = Guest(loop, loop.complete(machines.boot(loop, hardware, **options)))
    try:
        guest.hello()
        yield guest
    finally:
        guest.end()


def disk_file(path: os.PathLike, size: int, fill: Callable[[int], None] | None = None) -> int:
    """A sparse file, open for reading and writing."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.ftruncate(fd, size)
    if fill:
        fill(fd)
    return fd
