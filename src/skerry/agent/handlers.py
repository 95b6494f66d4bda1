"""What the host can ask for: one generator for each operation, and the table of them.

Runs in: the guest.   Imports: binascii; agent, container, errors, rpc.
Source:  docs/vm.md "The link".
Never:   blocks: what may wait is done by a worker.

Requests for different containers run at the same time, those for one in turn. `signal`, `resize` and the questions do
not wait for their turn: a hook that hangs in `start` must not keep the signal back that ends it.
"""

import binascii
import posix

from skerry.agent import figures, network, streams
from skerry.agent.members import INIT, Member, Running, Stdio
from skerry.agent.storage import ROOT, Storages
from skerry.agent.worker import Notes
from skerry.container import Container
from skerry.errors import EngineError, Error, NoSuchKey, NotFound, StateError
from skerry.linux.cgroupfs import read
from skerry.paths import version
from skerry.rpc.loop import Future
from skerry.spec.annotations import without_placing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from skerry.agent.main import Agent
    from skerry.agent.worker import Work

    Request = dict[str, Any]
    Steps = Generator[Future, Any, Any]

PROTOCOL = 1
_SIGKILL, _SIGTERM = 9, 15
_STOP_LOOK_S = 0.05
_GONE_S = 10


def seed(agent: "Agent", request: "Request") -> "Steps":
    agent.machine.seed(binascii.a2b_base64(request["entropy"]))
    agent.machine.set_clock(request["time_ns"])
    agent.seeded()
    boot_id = read("/proc/sys/kernel/random/boot_id")
    yield from ()
    return {"version": version(), "protocol": PROTOCOL, "boot_id": boot_id}


def identity(agent: "Agent", request: "Request") -> "Steps":
    agent.machine.set_hostname(request["hostname"])
    yield from ()


def set_network(agent: "Agent", request: "Request") -> "Steps":
    network.apply(request["interfaces"])
    yield from ()


def shutdown(agent: "Agent", request: "Request") -> "Steps":
    agent.loop.stop()
    yield from ()


# containers


def create(agent: "Agent", request: "Request") -> "Steps":
    id, spec = request["container"], request["spec"]
    if id in agent.members:
        raise EngineError(f"container {id} is already in the guest", id=id, operation="create")
    # Where it goes was decided on the host; the rest is for the hooks to read.
    more = without_placing(request.get("annotations") or {})
    spec["annotations"] = {**more, **(spec.get("annotations") or {})}
    storages = request.get("storages") or []
    stdio = _open_stdio(agent, request["streams"], terminal=bool(request.get("terminal")))
    member = agent.members[id] = Member(agent.loop, id, agent.tell)

    def work(notes: Notes) -> "tuple[dict[str, Any], list[int]]":
        place = Storages(id)
        try:
            for storage in storages:
                place.mount(storage)
            container = Container.create(
                agent.store,
                id,
                bundle=f"{ROOT}/{id}",
                spec=spec,
                isolation="process",
                stdio=stdio.fds,
                detach=False,
                log=notes,
            )
        except BaseException:
            place.undo()
            raise
        fds = [container.console_fd] if container.console_fd >= 0 else []
        return {"pid": container.engine.pid()}, fds

    try:
        return (yield from _make(agent, member, INIT, stdio, work))
    except BaseException:
        agent.members.pop(id, None)
        raise


def exec_process(agent: "Agent", request: "Request") -> "Steps":
    member = _member(agent, request)
    name, spec = request["process"], request["spec"]
    if name in member.processes:
        raise EngineError(f"process {name} is there already", id=member.id, operation="exec")
    stdio = _open_stdio(agent, request["streams"], terminal=bool(spec.get("terminal")))

    def work(notes: Notes) -> "tuple[dict[str, Any], list[int]]":
        process = Container.load(agent.store, member.id, log=notes).exec(
            spec,
            stdio=stdio.fds,
            cgroup=request.get("cgroup") or "",
            ignore_paused=bool(request.get("ignore_paused")),
        )
        fds = [process.console_fd] if process.console_fd >= 0 else []
        return {"pid": process.pid}, fds

    return (yield from _make(agent, member, name, stdio, work))


def start(agent: "Agent", request: "Request") -> "Steps":
    member = _member(agent, request)

    def work(notes: Notes) -> "tuple[dict[str, Any], list[int]]":
        container = Container.load(agent.store, member.id, log=notes)
        container.start()
        return {"pid": container.engine.pid()}, []

    document, _ = yield from _in_turn(agent, member, work, [])
    return document


def delete(agent: "Agent", request: "Request") -> "Steps":
    """Whatever is left of the container, also where it was never made, or only half."""
    id, force = request["container"], bool(request.get("force"))

    def work(notes: Notes) -> "tuple[None, list[int]]":
        try:
            Container.load(agent.store, id, log=notes).delete(force=force)
        except (NotFound, NoSuchKey):
            pass
        Storages(id).release()
        return None, []

    member = agent.members.get(id)
    if member is None:
        yield agent.worker(work).done
        return
    yield from _in_turn(agent, member, work, [])
    for running in [*member.processes.values()]:
        # Whatever nobody has read by now nobody will.
        running.stdio.close()
        yield agent.loop.within(running.gone, _GONE_S, f"the end of {running.name}")
    member.close()
    agent.members.pop(id, None)


def signal(agent: "Agent", request: "Request") -> "Steps":
    member = _member(agent, request)
    number, name = request["signal"], request.get("process") or INIT
    if number == _SIGKILL or request.get("all"):
        if name == INIT:
            yield agent.worker(lambda notes: _kill(agent, member.id, request, notes)).done
            return
    running = member.processes.get(name)
    if running is None or running.ended:
        raise StateError("container not running", id=member.id, status="stopped", verb="kill")
    # Nobody else reaps it, so the number is still its own.
    posix.kill(running.pid, number)
    yield from ()


def resize(agent: "Agent", request: "Request") -> "Steps":
    member = _member(agent, request)
    running = member.processes.get(request.get("process") or INIT)
    if running is None or running.stdio.console_fd < 0:
        raise Error("cannot resize the terminal of a process without one")
    streams.resize(running.stdio.console_fd, request["width"], request["height"])
    yield from ()


def pause(agent: "Agent", request: "Request") -> "Steps":
    yield from _verb(agent, request, Container.pause)


def resume(agent: "Agent", request: "Request") -> "Steps":
    yield from _verb(agent, request, Container.resume)


def update(agent: "Agent", request: "Request") -> "Steps":
    resources, pointer = request["resources"], request.get("pointer") or ""
    yield from _verb(agent, request, lambda container: container.update(resources, pointer=pointer))


def stop(agent: "Agent", request: "Request") -> "Steps":
    """After init's end: the others are asked to end, and waited for."""
    container = _container(agent, request)
    container.engine.kill_all(_SIGTERM)
    while container.engine.processes():
        later = Future()
        agent.loop.call_later(_STOP_LOOK_S, later.set)
        yield later


def stats(agent: "Agent", request: "Request") -> "Steps":
    yield from ()
    return {"container": _container(agent, request).stats(), "vm": figures.machine()}


def list_processes(agent: "Agent", request: "Request") -> "Steps":
    yield from ()
    pids = _container(agent, request).processes()
    return {"pids": pids, "table": figures.table(pids)}


def status(agent: "Agent", request: "Request") -> "Steps":
    yield from ()
    return {"status": _container(agent, request).status()}


HANDLERS: "dict[str, Callable[[Agent, Request], Steps]]" = {
    "seed": seed,
    "identity": identity,
    "network": set_network,
    "create": create,
    "start": start,
    "exec": exec_process,
    "signal": signal,
    "resize": resize,
    "pause": pause,
    "resume": resume,
    "stats": stats,
    "processes": list_processes,
    "status": status,
    "update": update,
    "stop": stop,
    "delete": delete,
    "shutdown": shutdown,
}


def _member(agent: "Agent", request: "Request") -> Member:
    id = request["container"]
    member = agent.members.get(id)
    if member is None:
        raise NotFound(id)
    return member


def _container(agent: "Agent", request: "Request") -> Container:
    container = _member(agent, request).container
    if container is None:
        raise NotFound(request["container"])
    return container


def _open_stdio(agent: "Agent", numbers: "dict[str, int]", *, terminal: bool) -> Stdio:
    """The streams of a request; the host may send for them from now on."""
    stdio = Stdio(agent.loop, agent.link, numbers, terminal=terminal)
    if stdio.input is not None:
        agent.inputs[numbers["stdin"]] = stdio.input
    for output in stdio.outputs:
        agent.outputs[output.number] = output
    return stdio


def _make(
    agent: "Agent", member: Member, name: str, stdio: Stdio, work: "Work"
) -> "Generator[Future, Any, dict[str, Any]]":
    """A process by a worker, then followed to its end."""
    agent.children.expect()
    try:
        document, fds = yield from _in_turn(agent, member, work, stdio.keep)
        end = agent.children.wait(document["pid"])
        if name == INIT:
            member.take_container(Container.load(agent.store, member.id))
    except BaseException:
        stdio.drop()
        _forget_streams(agent, stdio)
        raise
    finally:
        agent.children.settled()
    running = Running(name, document["pid"], stdio)
    running.gone.then(lambda _: _forget_streams(agent, stdio))
    member.processes[name] = running
    stdio.begin(fds[0] if fds else -1)
    # After the answer: the host must know the process before it hears of its end.
    agent.loop.call_later(0, lambda: member.follow(running, end))
    return {"pid": document["pid"]}


def _forget_streams(agent: "Agent", stdio: Stdio) -> None:
    for number in stdio.numbers:
        agent.inputs.pop(number, None)
        agent.outputs.pop(number, None)


def _verb(agent: "Agent", request: "Request", do: "Callable[[Container], None]") -> "Steps":
    member = _member(agent, request)

    def work(notes: Notes) -> "tuple[None, list[int]]":
        do(Container.load(agent.store, member.id, log=notes))
        return None, []

    yield from _in_turn(agent, member, work, [])


def _in_turn(agent: "Agent", member: Member, work: "Work", keep: "list[int]") -> "Steps":
    """The work, when all that was asked before for this container is done."""
    before, member.turn = member.turn, Future()
    mine = member.turn
    try:
        yield before
        return (yield agent.worker(work, keep=keep).done)
    finally:
        mine.set()


def _kill(agent: "Agent", id: str, request: "Request", notes: Notes) -> "tuple[None, list[int]]":
    container = Container.load(agent.store, id, log=notes)
    container.kill(request["signal"], all=bool(request.get("all")))
    return None, []
