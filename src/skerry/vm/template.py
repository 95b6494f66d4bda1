"""Templates: boot once, save, and start every further machine of the kind from there.

Runs in: vmshim; `skerry template`.   Imports: posix, fcntl; native.keeper, rpc, state.files, vm.
Source:  docs/vm.md "Templates" (what was measured, and what a clone must do first).
Never:   is shared between users, is changed by a clone, or keeps a pod from starting: without one it boots.

A template is the memory of a guest whose agent waits for its seed, and the state of everything else, both in sealed
memory files that a keeper holds open. A clone maps the memory privately. Whoever comes first makes the template, under
a lock; who comes meanwhile waits for it.
"""

import errno
import fcntl
import posix

from skerry import paths, timeouts
from skerry.errors import Error, KernelError, RpcError, VmError
from skerry.linux.fd import SEALS, close_all, lift, seal
from skerry.native import keeper
from skerry.rpc import frames
from skerry.rpc.loop import READ, Future, Loop
from skerry.vm import machine as machines
from skerry.vm import shelf, spare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.log import Log
    from skerry.rpc.loop import Steps
    from skerry.vm.hardware import Hardware
    from skerry.vm.machine import Machine

_LOCK_TRIES_S = 0.02
_HELLO_LIMIT_BYTES = 256 * 1024
_CAPABILITIES = {
    "capabilities": [
        {
            "capability": "x-ignore-shared",
            "state": True,
        },  # the memory is a file that both sides have
        {"capability": "events", "state": True},
    ]
}


class Template:
    """Its two files. `close` it."""

    __slots__ = ("memory_fd", "state_fd")

    def __init__(self, memory_fd: int, state_fd: int) -> None:
        self.memory_fd, self.state_fd = memory_fd, state_fd

    def close(self) -> None:
        close_all([self.memory_fd, self.state_fd])


def start(
    loop: Loop,
    root: str,
    hardware: "Hardware",
    *,
    log: "Log",
    template: bool = True,
    **options: "Any",
) -> "Steps":
    """Start a machine, from a template if that works, else from nothing.

    Shape   root is the directory of the ids; options are those of `Machine.launch`, but for memory and state.
    Result  the Machine; `cloned` says which it was.
    """
    if template:
        found = None
        log_fd = options.get("console_log_fd", -1)
        try:
            found = yield from obtain(loop, root, hardware)
            # A copy, which a failed clone takes along: the log goes on with the machine that boots.
            own = {"console_log_fd": lift(log_fd, 3)} if log_fd >= 0 else {}
            machine = yield from clone(loop, hardware, found, **{**options, **own})
            if log_fd >= 0:
                posix.close(log_fd)
            return machine
        except (Error, OSError) as error:
            log.warning(f"the VM boots, since its template cannot be used: {error}")
        finally:
            if found is not None:
                found.close()
    return (yield from machines.boot(loop, hardware, **options))


def obtain(loop: Loop, root: str, hardware: "Hardware") -> "Steps":
    """The template for this hardware; made if there is none.

    Owns    the caller closes it.
    """
    place = shelf.Place(root, shelf.key_of(hardware))
    found = _fetch(place, hardware)
    if found is not None:
        return found
    lock = shelf.open_directory(place)
    try:
        yield from _lock(loop, lock)
        found = _fetch(place, hardware)  # whoever had the lock has made it
        if found is None:
            found = yield from _make(loop, place, hardware)
        return found
    finally:
        posix.close(lock)


def _lock(loop: Loop, fd: int) -> "Steps":
    """Errors: RpcError when whoever makes the template takes too long."""
    tries = int(timeouts.seconds("BOOT") / _LOCK_TRIES_S)
    for _ in range(tries):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        pause = Future()
        loop.call_later(_LOCK_TRIES_S, pause.set)
        yield pause
    raise RpcError("whoever makes it does not come to an end")


def _fetch(place: "shelf.Place", hardware: "Hardware") -> "Template | None":
    facts = shelf.read(place)
    if facts is None:
        return None
    try:
        memory_fd, state_fd = keeper.fetch(facts["pid"], facts["start"], 2)
    except Error:
        return None
    template = Template(memory_fd, state_fd)
    try:
        for fd in (memory_fd, state_fd):
            if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS != SEALS:
                raise OSError(errno.EPERM, "not sealed")
        if posix.fstat(memory_fd).st_size != hardware.memory_mib << 20:
            raise OSError(errno.EINVAL, "another size")
    except OSError:  # the number of the process is somebody else's
        template.close()
        return None
    shelf.touch(place)
    return template


# making one


def _make(loop: Loop, place: "shelf.Place", hardware: "Hardware") -> "Steps":
    shelf.make_room(place)
    memory_fd = machines.new_memory(hardware.memory_mib)
    state_fd = posix.memfd_create("skerry-state", posix.MFD_CLOEXEC | posix.MFD_ALLOW_SEALING)
    try:
        with spare.Taps(len(hardware.macs)) as taps:
            machine = machines.Machine(loop, hardware)
            yield from machine.launch(memory_fd, taps=taps)
            try:
                yield from _await_hello(loop, machine)
                yield from _save(loop, machine, state_fd)
            finally:
                yield from machine.stop()
        for fd in (memory_fd, state_fd):
            _seal(fd)
        facts = shelf.facts_of(hardware)
        keeper.keep(
            [(memory_fd, "memory of the template"), (state_fd, "state of the template")],
            lambda pid, start: shelf.write(place, {**facts, "pid": pid, "start": start}),
        )
    except BaseException:
        close_all([memory_fd, state_fd])
        raise
    return Template(memory_fd, state_fd)


def _seal(fd: int) -> None:
    try:
        seal(fd)
    except OSError as error:
        raise KernelError("seal", "a template", error.errno or 0) from error


def _await_hello(loop: Loop, machine: "Machine") -> "Steps":
    """The agent's first word. It says no other before it is seeded.

    Errors  VmError with the console's last lines.
    """
    heard = Future()
    reader = frames.Reader(_HELLO_LIMIT_BYTES)

    def take(_events: int) -> None:
        try:
            data = posix.read(machine.link_fd, _HELLO_LIMIT_BYTES)
            if not data:
                raise RpcError("the link is closed")
            if reader.feed(data):
                heard.set()
        except (OSError, RpcError) as error:
            heard.fail(error)

    loop.watch(machine.link_fd, READ, take)
    machine.ended.then(lambda _: heard.fail(RpcError("QEMU has ended")))
    limit = timeouts.seconds("BOOT")
    try:
        yield loop.within(heard, limit, "the agent")
    except (OSError, RpcError) as error:
        raise machine.failure(f"cannot boot a template: {error}", phase="boot") from error
    finally:
        loop.unwatch(machine.link_fd)


def _save(loop: Loop, machine: "Machine", state_fd: int) -> "Steps":
    execute = machine.qmp.execute
    execute("stop")
    execute("migrate-set-capabilities", _CAPABILITIES)
    execute("getfd", {"fdname": "state"}, [state_fd])
    done = _migrated(machine)
    execute("migrate", {"uri": "fd:state"})
    yield loop.within(done, timeouts.seconds("SAVE"), "QEMU, told to save its state,")


# starting from one


def clone(loop: Loop, hardware: "Hardware", template: Template, **options: "Any") -> "Steps":
    """Start a machine from the template; its agent waits for the seed.

    Result  the Machine.
    Errors  VmError, RpcError; nothing is left then.
    """
    machine = machines.Machine(loop, hardware)
    machine.cloned = True
    memory_fd, shared = _memory(hardware, template)
    # A file of our own, from its beginning: clones share the template's open file, and would share its offset.
    state_fd = _reopen(template.state_fd)
    try:
        yield from machine.launch(memory_fd, shared=shared, incoming=True, **options)
        try:
            yield from _load(loop, machine, state_fd)
        except BaseException:
            yield from machine.stop()
            raise
    finally:
        posix.close(state_fd)
        if shared:
            posix.close(memory_fd)
    return machine


def _load(loop: Loop, machine: "Machine", state_fd: int) -> "Steps":
    execute = machine.qmp.execute
    execute("migrate-set-capabilities", _CAPABILITIES)
    execute("getfd", {"fdname": "state"}, [state_fd])
    done = _migrated(machine)
    execute("migrate-incoming", {"uri": "fd:state"})
    yield loop.within(done, timeouts.seconds("DEVICE"), "QEMU, told to take a template's state,")
    execute("cont")  # it was saved while stopped, and so it comes back


def _migrated(machine: "Machine") -> Future:
    """Done when QEMU has saved or loaded; it ends where it could not load."""
    done = Future()
    qmp = machine.qmp

    def failed(_: Future) -> None:
        words = machine.said.tail(1) or ["no reason given"]
        done.fail(VmError(f"QEMU cannot take the state: {words[0]}", phase="launch"))

    qmp.until("MIGRATION", status="completed").then(lambda _: done.set())
    qmp.until("MIGRATION", status="failed").then(failed)
    machine.ended.then(failed)
    return done


def _memory(hardware: "Hardware", template: Template) -> "tuple[int, bool]":
    """(fd, whether it is a copy): a share's daemon sees the guest's memory, so that is in a file of the clone's own."""
    if not hardware.shares:
        return template.memory_fd, False
    from skerry.disk import copy_sparse

    fd = machines.new_memory(hardware.memory_mib)
    try:
        copy_sparse(template.memory_fd, fd)
    except OSError as error:
        posix.close(fd)
        raise KernelError("copy", "the memory of a template", error.errno or 0) from error
    return fd, True


def _reopen(fd: int) -> int:
    path = f"/proc/self/fd/{fd}"
    try:
        return posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError as error:
        raise KernelError("open", "the state of a template", error.errno or 0) from error


# what there is


def list_all(root: str) -> "list[dict[str, Any]]":
    """Every template of the root, those whose keeper is gone too.

    Shape   [{"key", "alive", **facts of shelf.facts_of}]
    """
    rows = []
    for key in shelf.keys(root):
        facts = shelf.read(shelf.Place(root, key))
        if facts is not None:
            rows.append({"key": key, "alive": shelf.is_alive(facts), **facts})
    return rows


def destroy(root: str, key: str) -> None:
    """Machines that came from it live on.

    Errors  NotFound.
    """
    shelf.remove(shelf.Place(root, key))


def directory(root: str) -> str:
    return f"{root}/{paths.TEMPLATES}"
