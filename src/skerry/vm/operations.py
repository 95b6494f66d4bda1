"""What each request to a vmshim does.

Runs in: vmshim.   Imports: errors, rpc, state, vm.
Source:  docs/vm.md "The vmshim's socket"; docs/lifecycle.md 78-82.
Never:   takes facts of a container from its request: the store has them.
"""

from skerry.errors import EngineError, Error, NotFound, RpcError
from skerry.jsonio import dumps
from skerry.linux.process import start_time
from skerry.rpc.handoff import READY
from skerry.state import record as records
from skerry.state.journal import Journal
from skerry.vm import check, guest_spec, sources
from skerry.vm.member import INIT, GuestProcess, Member

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skerry.rpc.loop import Steps
    from skerry.vm.uvm import Uvm

_FAREWELL_S = 0.05


class Operation:
    """run(uvm, id, value, client) is a task; in_turn: after those before it for the same container."""

    __slots__ = ("in_turn", "run")

    def __init__(self, run: "Callable[[Uvm, str, Any, Any], Steps]", *, in_turn: bool = True) -> None:
        self.run, self.in_turn = run, in_turn


def _create(uvm: "Uvm", id: str, _value: object, _client: object) -> "Steps":
    record = records.load(uvm.store, id)
    if record.get("HostUniqueID") != uvm.unique_id:
        raise NotFound(id)
    if id in uvm.members:
        raise EngineError("container already created", id=id, operation="create")
    journal = uvm.journal if id == uvm.id else Journal.load(uvm.store, id)
    member = uvm.members[id] = Member(id, record, journal)
    try:
        yield from _build(uvm, member)
    except BaseException:
        try:
            yield from _release(uvm, member, unmount=True)
        except Error as error:
            uvm.log.warning(f"cannot undo the create of container {id}: {error}")
        raise


def _build(uvm: "Uvm", member: Member) -> "Steps":
    spec = uvm.store.get(member.id, "spec")
    if type(spec) is not dict:
        raise RpcError(f"container {member.id} has no spec")
    layers = sources.layers(spec, member.record)
    translation = guest_spec.translate(
        spec, member.record, sources.look(spec, member.record), layers=layers, guest_pid=_guest_pid(uvm)
    )
    yield from uvm.host.network(member)
    storages = yield from uvm.host.storages(member, translation.storages)
    has_process = "process" in spec
    terminal = bool((spec.get("process") or {}).get("terminal"))
    if uvm.guest is None:
        raise RpcError(f"VM {uvm.id} has ended")
    init = GuestProcess(uvm.guest, INIT, terminal=terminal, stdio=has_process)
    init.on_left = lambda: uvm.left(member, init)
    init.on_control = _control(uvm, member, init)
    member.processes[INIT] = init
    init.pid = yield uvm.ask(
        "create",
        judge=check.pid,
        limit="CREATE",
        container=member.id,
        spec=translation.spec,
        storages=storages,
        streams=init.numbers(),
        terminal=terminal,
        annotations=spec.get("annotations") or {},
    )


def _guest_pid(uvm: "Uvm") -> "Callable[[int], int | None]":
    """Host pids of shims, which is what engines name namespaces by, to pids of the guest."""

    def find(host_pid: int) -> "int | None":
        for member in uvm.members.values():
            try:
                shim = uvm.store.get(member.id, "shim")
            except Error:
                continue
            if type(shim) is dict and shim.get("pid") == host_pid and member.init is not None:
                return member.init.pid
        return None

    return find


def _start(uvm: "Uvm", id: str, _value: object, _client: object) -> "Steps":
    member = uvm.member(id)
    pid = yield uvm.ask("start", judge=check.pid, limit="START", container=id)
    if member.init is not None:
        member.init.pid = pid
    return {"pid": pid}


def _attach(uvm: "Uvm", id: str, _value: object, client: "Any") -> "Steps":
    """Give the stdio of init to its shim, which there is one of."""
    init = uvm.member(id).init
    if init is None or init.link is not None:
        raise RpcError(f"container {id} cannot be attached to")
    _hand_over(uvm, init, client)
    yield from ()


def _hand_over(uvm: "Uvm", process: GuestProcess, client: "Any") -> None:
    document = {"pid": process.pid, "terminal": process.terminal, "streams": sorted(process.streams)}
    process.shim = (client.pid, start_time(client.pid))
    client.write(READY + dumps(document) + b"\n")
    if client.gone:
        process.on_left()
    else:
        process.attach(uvm.loop, client.take_fd())


def _exec(uvm: "Uvm", id: str, value: object, client: "Any") -> "Steps":
    member = uvm.member(id)
    if type(value) is not dict or type(value.get("process")) is not dict or uvm.guest is None:
        raise RpcError("bad request: exec without a process")
    member.execs += 1
    name = f"e{member.execs}"
    process = GuestProcess(uvm.guest, name, terminal=bool(value["process"].get("terminal")))
    process.on_left = lambda: uvm.left(member, process)
    process.on_control = _control(uvm, member, process)
    member.processes[name] = process
    try:
        process.pid = yield uvm.ask(
            "exec",
            judge=check.pid,
            limit="START",
            container=id,
            process=name,
            spec=value["process"],
            streams=process.numbers(),
            cgroup=value.get("cgroup") or "",
            ignore_paused=bool(value.get("ignore_paused")),
        )
    except BaseException:
        process.drop()
        member.processes.pop(name, None)
        raise
    _hand_over(uvm, process, client)


def _control(
    uvm: "Uvm", member: Member, process: GuestProcess
) -> "Callable[[dict[str, Any]], None]":
    """What a shim says about its process, in the order that it says it."""

    def control(document: "dict[str, Any]") -> None:
        where: dict[str, Any] = {"container": member.id, "process": process.name}
        if type(document.get("signal")) is int:
            uvm.ask("signal", **where, signal=document["signal"], all=False)
        elif type(document.get("resize")) is list and len(document["resize"]) == 2:
            width, height = document["resize"]
            uvm.ask("resize", **where, width=width, height=height)
        else:
            raise RpcError("a shim says what none of ours does")

    return control


def _signal(uvm: "Uvm", id: str, value: object, _client: object) -> "Steps":
    member = uvm.member(id)
    if type(value) is not dict or type(value.get("signal")) is not int:
        raise RpcError("bad request: signal without a number")
    name = member.named(value.get("process"))
    every = bool(value.get("all"))
    yield uvm.ask("signal", container=id, process=name, signal=value["signal"], all=every)


def _resize(uvm: "Uvm", id: str, value: object, _client: object) -> "Steps":
    member = uvm.member(id)
    if type(value) is not dict:
        raise RpcError("bad request: resize without a size")
    name = member.named(value.get("process"))
    if not member.processes[name].terminal:
        raise EngineError("cannot resize the terminal of a process without one", id=id)
    width, height = value.get("width"), value.get("height")
    yield uvm.ask("resize", container=id, process=name, width=width, height=height)


def _update(uvm: "Uvm", id: str, value: object, _client: object) -> "Steps":
    uvm.member(id)
    if type(value) is not dict or type(value.get("resources")) is not dict:
        raise RpcError("bad request: update without resources")
    pointer = value.get("pointer") or ""
    yield uvm.ask("update", container=id, resources=value["resources"], pointer=pointer)


def _pass_on(
    op: str, limit: str, judge: "Callable[[object], object]"
) -> "Callable[[Uvm, str, Any, Any], Steps]":
    """An operation that the agent does alone."""

    def run(uvm: "Uvm", id: str, _value: object, _client: object) -> "Steps":
        uvm.member(id)
        return (yield uvm.ask(op, judge=judge, limit=limit, container=id))

    return run


def _nothing(_answer: object) -> None:
    return None


def _terminate(uvm: "Uvm", id: str, _value: object, _client: object) -> "Steps":
    yield from uvm.terminate(uvm.member(id))


def _watch(uvm: "Uvm", id: str, _value: object, client: "Any") -> "Steps":
    """A line for each event, until the container or the client ends."""
    member = uvm.member(id)
    client.hold()
    client.write(READY + b"{}\n")

    def tell(event: "dict[str, Any] | None") -> None:
        if event is None or client.gone:
            member.watchers.remove(tell)
            client.drop()
        else:
            client.write(dumps(event) + b"\n")

    member.watchers.append(tell)
    yield from ()


def _unmount(uvm: "Uvm", id: str, _value: object, _client: object) -> "Steps":
    """Twice is no error: it may never have been here."""
    member = uvm.members.get(id)
    if member is not None:
        yield from _release(uvm, member, unmount=True)


def _unmount_disk(uvm: "Uvm", id: str, _value: object, _client: object) -> "Steps":
    member = uvm.members.get(id)
    if member is not None:
        yield from _release(uvm, member, unmount=False)


def _release(uvm: "Uvm", member: Member, *, unmount: bool) -> "Steps":
    """What the container has in the guest and of the host; the first error is told, after all was tried."""
    failed: Error | None = None
    try:
        yield from uvm.terminate(member)
        if unmount and member.init is not None:
            yield uvm.ask("delete", container=member.id, force=True)
    except NotFound as error:
        uvm.log.debug(str(error))  # the guest never had it
    except Error as error:
        failed = error
    if member.init is not None and member.init.end is None:
        member.init.ended({"code": 255, "signal": 0, "reason": "start-failed"})
    yield from uvm.host.release(member, detach=unmount)
    if failed is not None:
        raise failed
    uvm.members.pop(member.id, None)


def _shutdown(uvm: "Uvm", id: str, _value: object, _client: object) -> "Steps":
    if id != uvm.id:
        raise RpcError(f"container {id} is not the owner of VM {uvm.id}")
    try:
        yield from uvm.shut_down()
    finally:
        uvm.loop.call_later(_FAREWELL_S, uvm.loop.stop)


def _sync(_uvm: "Uvm", _id: str, _value: object, _client: object) -> "Steps":
    yield from ()
    raise EngineError("Not implemented")


OPERATIONS = {
    "create": Operation(_create),
    "start": Operation(_start),
    "attach": Operation(_attach, in_turn=False),
    "exec": Operation(_exec),
    "signal": Operation(_signal, in_turn=False),
    "resize": Operation(_resize),
    "pause": Operation(_pass_on("pause", "PAUSE", _nothing)),
    "resume": Operation(_pass_on("resume", "RESUME", _nothing)),
    "update": Operation(_update),
    "stats": Operation(_pass_on("stats", "ANSWER", check.stats), in_turn=False),
    "processes": Operation(_pass_on("processes", "ANSWER", check.processes), in_turn=False),
    "status": Operation(_pass_on("status", "ANSWER", check.status), in_turn=False),
    # These must come through while another hangs.
    "stop": Operation(_pass_on("stop", "STOP", _nothing), in_turn=False),
    "terminate": Operation(_terminate, in_turn=False),
    "watch": Operation(_watch, in_turn=False),
    "unmount": Operation(_unmount),
    "unmount-disk": Operation(_unmount_disk),
    "shutdown": Operation(_shutdown, in_turn=False),
    "sync": Operation(_sync),
}
