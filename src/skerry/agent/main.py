"""The agent: boots the guest, then serves the host over one link until it is told to end.

Runs in: the guest, as pid 1.   Imports: gc, posix; agent, rpc (all of the core with them, before `hello`).
Source:  docs/vm.md "The link", "Boot".
Never:   serves anything before it was seeded; blocks; enters a namespace of a container.

    boot: mounts, modules, port -> hello -> seed -> requests, events, streams -> shutdown
"""

import gc
import posix
import sys

from skerry.agent import handlers, machine
from skerry.agent.children import Children
from skerry.agent.members import Member
from skerry.agent.worker import Worker
from skerry.container import open_store
from skerry.errors import Error, RpcError, UsageError, one_line
from skerry.jsonio import loads
from skerry.paths import version
from skerry.rpc import failures, frames
from skerry.rpc.link import Link
from skerry.rpc.loop import Future, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from skerry.agent.streams import Input, Output
    from skerry.agent.worker import Work

PROTOCOL = 1
_CONTROL_LIMIT_BYTES = 4 * 1024 * 1024
# What the core may import late, and has in a template: all of these packages, some modules, some of the library.
_PACKAGES = ("linux", "native", "native.cgroup", "plan", "spec", "state")
_MODULES = ("addition", "container", "creation", "deletion", "hooks", "pod")
_LIBRARY = ("ctypes", "hashlib")


class Agent:
    """One link, and the containers that the host made over it.

    inputs, outputs   stream number -> stream
    """

    __slots__ = (
        "_link",
        "_seeded",
        "children",
        "inputs",
        "loop",
        "machine",
        "members",
        "outputs",
        "store",
    )

    def __init__(self, fd: int, machine_: machine.Machine) -> None:
        """Takes ownership of the fd."""
        self.loop = Loop()
        self.machine = machine_
        self.children = Children(self.loop)
        self.store = open_store()
        self.members: dict[str, Member] = {}
        self.inputs: dict[int, Input] = {}
        self.outputs: dict[int, Output] = {}
        self._seeded = False
        self._link = Link(
            self.loop,
            fd,
            on_frame=self._frame,
            on_end=self._end,
            control_limit=_CONTROL_LIMIT_BYTES,
        )

    @property
    def link(self) -> Link:
        return self._link

    def run(self) -> None:
        """Until `shutdown`, or until the host is gone."""
        self.tell({"event": "hello", "version": version(), "protocol": PROTOCOL})
        self.loop.run()

    def tell(self, document: "dict[str, Any]") -> None:
        self._link.send_json(document)

    def note(self, message: str) -> None:
        """A warning for the host's log."""
        self.tell({"event": "log", "level": "warning", "message": message})

    def worker(self, work: "Work", *, keep: "Sequence[int]" = ()) -> Worker:
        return Worker(self.loop, work, note=self.note, keep=keep)

    def seeded(self) -> None:
        self._seeded = True

    # frames

    def _frame(self, kind: int, stream: int, payload: bytes) -> None:
        if kind == frames.CONTROL:
            self._request(payload)
        elif kind == frames.DATA:
            if stream in self.inputs:
                self.inputs[stream].take(payload)
        elif kind == frames.CREDIT:
            # For a stream that has just ended it is late, which is no error.
            if stream in self.outputs:
                self.outputs[stream].add_credit(frames.CREDIT_FORMAT.unpack(payload)[0])
        elif stream in self.inputs:
            self.inputs[stream].close()
        elif stream in self.outputs:
            self.outputs[stream].stop()

    def _request(self, payload: bytes) -> None:
        try:
            request = loads(payload)
        except Error as error:
            raise RpcError(f"bad request: {error}") from error
        if type(request) is not dict or type(request.get("id")) is not int:
            raise RpcError("bad request: it has no id")
        id = request["id"]

        def answered(future: Future) -> None:
            self._answer(id, future)

        op = request.get("op")
        if op != "seed" and not self._seeded:
            _fail(RpcError("cannot serve: the guest was not seeded"), answered)
        elif op not in handlers.HANDLERS:
            _fail(UsageError(f"unknown operation {op}"), answered)
        else:
            self.loop.spawn(handlers.HANDLERS[op](self, request), answered)

    def _answer(self, id: int, future: Future) -> None:
        if future.error is not None:
            self.tell({"id": id, "error": failures.encode(future.error)})
        else:
            self.tell({"id": id, "ok": future.value})

    def _end(self, error: "RpcError | None") -> None:
        """The host is gone, or made no sense: without it there is nothing to be done here."""
        machine.say(f"the link ended: {error}" if error else "the host closed the link")
        self.loop.stop()


def _fail(error: Error, done: "Callable[[Future], None]") -> None:
    future = Future()
    future.then(done)
    future.fail(error)


def preload() -> None:
    """Import what requests will need, and keep the collector away from it: workers share these pages."""
    for name in _LIBRARY:
        __import__(name)
    for name in _MODULES:
        __import__(f"skerry.{name}")
    for package in _PACKAGES:
        __import__(f"skerry.{package}")
        for file in posix.listdir(sys.modules[f"skerry.{package}"].__path__[0]):
            name, dot, suffix = file.partition(".")
            if suffix in ("py", "pyc") and name != "__init__":
                __import__(f"skerry.{package}.{name}")
    gc.collect()
    gc.freeze()


def boot() -> None:
    """Be pid 1 of the guest. Does not return."""
    try:
        machine.prepare()
        preload()
        Agent(machine.open_port(), machine.Machine()).run()
    except BaseException as error:
        machine.say(one_line(f"the agent failed: {type(error).__name__}: {error}"))
        raise
    finally:
        end(machine.Machine())


def end(machine_: machine.Machine) -> None:
    """Kill what is left, and power off."""
    try:
        posix.kill(-1, 9)
    except ProcessLookupError:
        pass
    machine_.end()
