"""A VM whose guest tells of things that are not: it is lost, and everybody hears of it. security V55; lifecycle 86."""

import json
import socket
import struct
from pathlib import Path

import pytest

from skerry.errors import EngineError, NotFound, RpcError
from skerry.log import SILENT
from skerry.rpc.loop import Future, Loop
from skerry.state.journal import Journal
from skerry.state.store import Store
from skerry.vm.guest import Guest
from skerry.vm.member import INIT, GuestProcess, Member
from skerry.vm.operations import OPERATIONS
from skerry.vm.settings import Settings
from skerry.vm.uvm import Uvm

HEADER = struct.Struct("<BBHI")


class Console:
    def drain(self) -> None:
        pass

    def last_words(self, lines: int) -> list[str]:
        return ["kernel says \x1b[31mred"]


class Machine:
    """What a Uvm asks of one."""

    def __init__(self) -> None:
        self.ended, self.console, self.stopped = Future(), Console(), False

    def stop(self, limit_s: float = 0):
        self.stopped = True
        yield from ()


class Pod:
    """A VM with two containers, whose guest is this test."""

    def __init__(self, root: Path) -> None:
        self.loop = Loop()
        self.store = Store(str(root))
        self.uvm = Uvm(self.loop, self.store, "owner", "u1", Settings(), SILENT)
        self.uvm.host.machine = self.machine = Machine()  # type: ignore[assignment]
        ours, self.guest = socket.socketpair()
        self.uvm.guest = Guest(
            self.loop, ours.detach(), on_event=self.uvm._on_event, on_end=self.uvm._on_link_end, log=lambda _: None
        )
        self.shims = {}
        for id in ("owner", "other"):
            member = self.uvm.members[id] = Member(id, {"ID": id, "UniqueID": f"u-{id}"}, Journal(self.store, id, []))
            init = member.processes[INIT] = GuestProcess(self.uvm.guest, INIT, terminal=False)
            init.pid = 10
            theirs, self.shims[id] = socket.socketpair()
            init.attach(self.loop, theirs.detach())

    def say(self, document: object) -> None:
        data = json.dumps(document).encode()
        self.guest.sendall(HEADER.pack(1, 0, 0, len(data)) + data)
        for _ in range(6):
            self.loop.call_later(0.001, lambda: None)
            self.loop.turn()

    def heard(self, id: str) -> list[dict]:
        """CONTROL documents that came to a shim."""
        self.shims[id].setblocking(False)
        try:
            data = self.shims[id].recv(1 << 20)
        except BlockingIOError:
            return []
        found = []
        while data:
            kind, _, _, length = HEADER.unpack_from(data)
            if kind == 1:
                found.append(json.loads(data[HEADER.size : HEADER.size + length]))
            data = data[HEADER.size + length :]
        return found

    def close(self) -> None:
        for member in self.uvm.members.values():
            for process in member.processes.values():
                process.detach()
        if self.uvm.guest is not None:
            self.uvm.guest.close()
        for sock in (self.guest, *self.shims.values()):
            sock.close()


@pytest.fixture
def pod(tmp_path: Path):
    found = Pod(tmp_path / "root")
    yield found
    found.close()


def end(**changes: object) -> dict:
    return {"event": "exit", "container": "owner", "process": INIT, "code": 3, "signal": 0, "reason": "exit", **changes}


def test_an_honest_end_reaches_its_shim_alone(pod: Pod) -> None:
    pod.say(end())
    assert pod.heard("owner") == [{"exit": {"code": 3, "signal": 0, "reason": "exit"}}]
    assert pod.heard("other") == [] and pod.uvm.guest.open


@pytest.mark.parametrize(
    "event",
    [
        end(container="stranger"),
        end(container="../owner"),
        end(container=["owner"]),
        end(process={}),
        end(reason=["exit"]),
        {"event": "oom", "container": {}},
        end(process="e9"),
        end(code=1 << 40),
        end(signal=-9),
        end(reason="deleted"),
        end(code="0"),
        {"event": "oom", "container": "stranger"},
        {"event": "oom"},
    ],
)
def test_lies_end_the_pod(pod: Pod, event: dict) -> None:
    """Everybody ends with 255 and vm-lost; what is told is one printable line; QEMU is stopped."""
    pod.say(event)
    for id in ("owner", "other"):
        (heard,) = pod.heard(id)
        assert (heard["exit"]["code"], heard["exit"]["reason"]) == (255, "vm-lost")
        assert heard["exit"]["message"].isprintable() and "kernel says" in heard["exit"]["message"]
    assert not pod.uvm.guest.open and pod.machine.stopped


def test_a_second_end_is_a_lie(pod: Pod) -> None:
    pod.say(end())
    pod.heard("owner")
    pod.say(end())
    assert pod.heard("other")[0]["exit"]["reason"] == "vm-lost"


def test_the_machine_was_killed(pod: Pod) -> None:
    """lifecycle 141: never code 0."""
    pod.machine.ended.set((137, 9))
    pod.uvm._on_machine_end()
    for id in ("owner", "other"):
        assert pod.heard(id)[0]["exit"]["reason"] == "vm-killed"


def test_out_of_memory_is_told_to_whoever_watches(pod: Pod) -> None:
    """lifecycle 141: and the end after it has the reason."""
    told: list = []
    pod.uvm.members["owner"].watchers.append(told.append)
    pod.say({"event": "oom", "container": "owner"})
    assert told == [{"event": "oom"}]
    pod.say(end(code=137, signal=9, reason="signal"))
    assert pod.heard("owner")[0]["exit"]["reason"] == "oom" and told[-1] is None


def test_requests_for_a_vm_that_has_ended(pod: Pod) -> None:
    pod.uvm.lose({"code": 255, "signal": 0, "reason": "vm-lost"}, "gone")
    future = pod.loop.spawn(OPERATIONS["status"].run(pod.uvm, "owner", None, None))
    while not future.done:
        pod.loop.turn()
    assert isinstance(future.error, RpcError)


@pytest.mark.parametrize(
    ("op", "id", "value", "error"),
    [
        ("status", "nobody", None, NotFound),
        ("signal", "owner", None, RpcError),
        ("signal", "owner", {"process": 99, "signal": 9}, RpcError),
        ("signal", "owner", {"process": "init", "signal": "9"}, RpcError),
        ("exec", "owner", {"process": "sh"}, RpcError),
        ("update", "owner", {"resources": []}, RpcError),
        ("resize", "owner", {"process": "init", "width": 1, "height": 1}, EngineError),
        ("shutdown", "other", None, RpcError),
        ("sync", "owner", None, EngineError),
    ],
)
def test_bad_requests(pod: Pod, op: str, id: str, value: object, error: type) -> None:
    """lifecycle 81: an error for whoever asked, and nothing else."""
    future = pod.loop.spawn(OPERATIONS[op].run(pod.uvm, id, value, None))
    while not future.done:
        pod.loop.turn()
    assert type(future.error) is error
    assert pod.uvm.guest.open
