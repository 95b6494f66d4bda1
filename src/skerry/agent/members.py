"""The containers of this guest and their processes, as the agent follows them.

Runs in: the guest.   Imports: posix; agent, container, rpc.
Source:  docs/vm.md "The link", events; docs/lifecycle.md 73, 141.
Never:   decides what a verb may do; the core does.
"""

import posix

from skerry.agent import streams
from skerry.container import Container
from skerry.errors import Error
from skerry.linux import cgroupfs
from skerry.linux.fd import close_all
from skerry.native.cgroup import oom
from skerry.rpc.loop import READ, Future, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from skerry.native.cgroup.group import Cgroup
    from skerry.rpc.link import Link

INIT = "init"
_SIGKILL = 9


class Stdio:
    """The three streams of a process.

    fds      what the process gets as 0, 1, 2, for as long as it is being made
    keep     those of them that are not the shared /dev/null
    """

    __slots__ = ("_ours", "console_fd", "fds", "input", "keep", "numbers", "outputs")

    def __init__(
        self, loop: Loop, link: "Link", numbers: "dict[str, int]", *, terminal: bool
    ) -> None:
        """Make pipes; with a terminal there are none, its master comes later."""
        self.console_fd = -1
        self.input = streams.Input(loop, link, numbers["stdin"]) if numbers.get("stdin") else None
        self.outputs = [
            streams.Output(loop, link, numbers[name])
            for name in ("stdout", "stderr")
            if numbers.get(name)
        ]
        self.numbers = [number for number in numbers.values() if number]
        self.keep: list[int] = []
        self._ours: list[int] = []
        fds = []
        for name in ("stdin", "stdout", "stderr"):
            if terminal or not numbers.get(name):
                fds.append(posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC))
                self.keep.append(fds[-1])
                continue
            reader, writer = posix.pipe2(posix.O_CLOEXEC)
            theirs, ours = (reader, writer) if name == "stdin" else (writer, reader)
            fds.append(theirs)
            self.keep.append(theirs)
            self._ours.append(ours)
        self.fds = (fds[0], fds[1], fds[2])

    def begin(self, console_fd: int) -> None:
        """The process has its ends: relay."""
        close_all(self.keep)
        self.console_fd = console_fd
        relays: list[streams.Input | streams.Output] = [*self.outputs]
        if self.input is not None:
            relays.insert(0, self.input)
        if console_fd >= 0:
            # A master for each direction: one watcher has one fd.
            self._ours = [posix.dup(console_fd) for _ in relays]
        ours, self._ours = self._ours, []
        for relay, fd in zip(relays, ours, strict=True):
            relay.begin(fd)

    def drop(self) -> None:
        """The process did not come to be."""
        close_all([*self.keep, *self._ours])

    def end_input(self) -> None:
        """The process has ended: what it did not read nobody will."""
        if self.input is not None:
            self.input.stop()

    def close(self) -> None:
        """All streams have ended."""
        self.end_input()
        for output in self.outputs:
            output.stop()
        if self.console_fd >= 0:
            posix.close(self.console_fd)
            self.console_fd = -1


class Running:
    """A process: `name` is `init`, or what the host called it."""

    __slots__ = ("ended", "gone", "name", "pid", "stdio")

    def __init__(self, name: str, pid: int, stdio: Stdio) -> None:
        self.name, self.pid, self.stdio = name, pid, stdio
        self.ended = False
        self.gone = Future()  # its exit has been told


class Member:
    """A container.

    processes   name -> Running, until their exits have been told
    turn        done when the last request for this container is through
    """

    __slots__ = (
        "_cgroup",
        "_loop",
        "_oom",
        "_tell",
        "container",
        "id",
        "is_over",
        "processes",
        "turn",
    )

    def __init__(self, loop: Loop, id: str, tell: "Callable[[dict[str, Any]], None]") -> None:
        self._loop = loop
        self._tell = tell
        self._cgroup: Cgroup | None = None
        self._oom: oom.OomWatch | None = None
        self.id = id
        self.container: Container | None = None
        self.processes: dict[str, Running] = {}
        self.is_over = False
        self.turn = Future()
        self.turn.set()

    def take_container(self, container: Container) -> None:
        """It exists: hear of its want of memory from now on."""
        self.container = container
        try:
            self._cgroup = container.engine.cgroup()
            self._oom = oom.OomWatch(self._cgroup)
            self._loop.watch(self._oom.fileno(), READ, self._oom_readable)
        except Error as error:
            container.log.warning(str(error))

    def follow(self, running: Running, end: Future) -> None:
        """Tell of its exit when it ends."""

        def ended(future: Future) -> None:
            self._loop.spawn(self._ended(running, *future.value), _defect)

        end.then(ended)

    def close(self) -> None:
        """Nothing more is told of it."""
        if self._oom is not None:
            self._loop.unwatch(self._oom.fileno())
            self._oom.close()
            self._oom = None

    def cut_off(self) -> None:
        """The container has ended: of its processes that have, too, only what they wrote by now counts."""
        for running in self.processes.values():
            if running.ended:
                for output in running.stdio.outputs:
                    output.finish()

    def _ended(self, running: Running, code: int, signal: int) -> "Generator[Future, Any, None]":
        """From the end of a process to the word of it, which comes after its output."""
        running.ended = True
        running.stdio.end_input()
        if running.name == INIT:
            self._oom_readable(0)
            self.is_over = True
        reason = self._reason(running, signal)
        self._record(running, code, signal, reason)
        if self.is_over:
            self.cut_off()
        for output in running.stdio.outputs:
            yield output.ended
        running.stdio.close()
        self.processes.pop(running.name, None)
        self._tell(
            {
                "event": "exit",
                "container": self.id,
                "process": running.name,
                "code": code,
                "signal": signal,
                "reason": reason,
            }
        )
        running.gone.set()

    def _reason(self, running: Running, signal: int) -> str:
        if signal == _SIGKILL and self._cgroup is not None and oom.kills(self._cgroup):
            return "oom"
        return "signal" if signal else "exit"

    def _record(self, running: Running, code: int, signal: int, reason: str) -> None:
        """The keys that say that it is over."""
        container = self.container
        if container is None:
            return
        if running.name == INIT:
            container.record_end(code, signal, reason)
            return
        try:
            container.store.clear(self.id, f"exec-{running.pid}")
        except Error as error:
            container.log.debug(str(error))

    def _oom_readable(self, events: int) -> None:
        if self._oom is None or self._cgroup is None:
            return
        if self._oom.happened():
            self._tell({"event": "oom", "container": self.id})
        elif events and not cgroupfs.is_directory(self._cgroup.paths["memory"]):
            self.close()


def _defect(future: Future) -> None:
    """A task of ours that fails is a defect: it must not go unseen."""
    future.result()
