"""A utility VM as its vmshim owns it: the machine, the agent, the containers; begin and end of each.

Runs in: vmshim.   Imports: posix; errors, linux, rpc, state, vm.
Source:  docs/lifecycle.md D, G; docs/vm.md.
Never:   blocks: whatever waits is a task of the loop.
"""

import posix

from skerry import paths, timeouts
from skerry.errors import Error, NotFound, RpcError, one_line
from skerry.linux import process
from skerry.rpc.loop import Future, Loop
from skerry.state import record as records
from skerry.state.journal import Journal
from skerry.vm import check, ends
from skerry.vm.guest import Guest
from skerry.vm.host import Host
from skerry.vm.member import INIT, LOST, GuestProcess, Member
from skerry.vm.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Any

    from skerry.log import Log
    from skerry.rpc.loop import Steps
    from skerry.state.store import Store

_SIGKILL = 9
# What ended QEMU is known a moment after the link has ended.
_LAST_WORD_S = 0.3
# The last answers are on their way when the VM has ended.
_FAREWELL_S = 0.05
_POWEROFF_S = 5
_CONSOLE_LINES = 8
DELETED = {"code": 128 + _SIGKILL, "signal": _SIGKILL, "reason": "deleted"}


class Uvm:
    """The VM of one owner.

    members    id -> container, from its create to its release
    directory  of its sockets and files
    """

    __slots__ = (
        "_lost", "directory", "guest", "host", "id", "journal", "log", "loop", "members", "settings", "store",
        "unique_id",
    )  # fmt: skip

    def __init__(
        self, loop: Loop, store: "Store", id: str, unique_id: str, settings: Settings, log: "Log"
    ) -> None:
        self.loop, self.store, self.id, self.unique_id = loop, store, id, unique_id
        self.settings, self.log = settings, log
        self.directory = paths.vm_dir(store.root, unique_id)
        self.journal = Journal(store, id, [])
        self.members: dict[str, Member] = {}
        self.guest: Guest | None = None
        self.host = Host(self)
        self._lost: dict[str, Any] | None = None

    # beginning

    def prepare_directory(self, sock: "_socket.socket") -> None:
        """Write ourselves down, make the directory, bind the socket in it.

        Errors  NotFound where the id has become another's.
        """
        record = records.load(self.store, self.id)
        if record["UniqueID"] != self.unique_id:
            raise NotFound(self.id)
        pid = posix.getpid()
        self.journal.add(
            {"kind": "vm", "directory": self.directory},
            {"kind": "vmshim", "pid": pid, "start": process.start_time(pid)},
        )
        above, _, name = self.directory.rpartition("/")
        try:
            posix.mkdir(above, 0o700)
        except FileExistsError:
            pass
        posix.mkdir(self.directory, 0o700)
        fd = posix.open(self.directory, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
        try:
            sock.bind(f"/proc/self/fd/{fd}/{paths.VMSHIM}")
            posix.chmod(f"/proc/self/fd/{fd}/{paths.VMSHIM}", 0o600)
        finally:
            posix.close(fd)

    def remove_directory(self) -> None:
        """Our socket; what else lies there is on record."""
        try:
            posix.unlink(f"{self.directory}/{paths.VMSHIM}")
        except OSError as error:
            self.log.debug(str(error))

    def boot(self) -> "Steps":
        """Up to the agent's answer.

        Errors  VmError with the console's last lines; nothing of the machine is left then but what is on record.
        """
        machine = yield from self.host.start(records.load(self.store, self.id))
        guest = self.guest = Guest(
            self.loop, machine.take_link(), on_event=self._on_event, on_end=self._on_link_end, log=self.log.debug
        )
        machine.ended.then(lambda _: self._on_machine_end())
        try:
            yield from self.host.first_words(guest)
        except Error as error:
            raise machine.failure(f"cannot start the VM: {error.message}", phase="boot") from error

    # the end

    def lose(self, end: "dict[str, Any]", why: str) -> None:
        """Everything in the VM has ended: tell it to everybody at once, then end (lifecycle 86)."""
        if self._lost is not None:
            return
        self._lost = end
        machine = self.host.machine
        if end["reason"].startswith("vm-"):
            if machine is not None:
                machine.console.drain()
                tail = [one_line(line, 120) for line in machine.console.last_words(_CONSOLE_LINES)]
                why += f"; console: {' | '.join(tail)}" if tail else ""
            end = {**end, "message": one_line(why)}
            self.log.warning(end["message"])
        if self.guest is not None:
            self.guest.close()
        for member in list(self.members.values()):
            member.lost(end)
        self.loop.spawn(self._finish())

    def _finish(self) -> "Steps":
        try:
            yield from self.end()
        except Error as error:
            self.log.warning(str(error))
        self.loop.call_later(_FAREWELL_S, self.loop.stop)

    def end(self, poweroff_s: float = 0) -> "Steps":
        """The machine's end, whatever it takes; then what the host had for it."""
        if self.guest is not None:
            self.guest.close()
        yield from self.host.stop(poweroff_s)

    def _on_link_end(self, error: "RpcError | None") -> None:
        self.loop.call_later(_LAST_WORD_S if error is None else 0, lambda: self._judge(error))

    def _on_machine_end(self) -> None:
        self._judge(None)

    def _judge(self, error: "RpcError | None") -> None:
        """Why the VM is gone: killed from outside, or by itself."""
        machine = self.host.machine
        signal = machine.ended.value[1] if machine is not None and machine.ended.done else 0
        if signal == _SIGKILL:
            self.lose({**LOST, "reason": "vm-killed"}, f"VM {self.id} was killed")
        else:
            why = error.message if error is not None else "the guest has ended"
            self.lose(LOST, f"VM {self.id} is lost: {why}")

    # containers

    def member(self, id: str) -> Member:
        """Errors  NotFound for one that was not created here."""
        found = self.members.get(id)
        if found is None:
            raise NotFound(id)
        return found

    def ask(
        self,
        op: str,
        *,
        judge: "Callable[[object], object] | None" = None,
        limit: str = "ANSWER",
        **fields: object,
    ) -> Future:
        if self.guest is None or self._lost is not None:
            future = Future()
            future.fail(RpcError(f"VM {self.id} has ended"))
            return future
        limit_s = timeouts.seconds(limit)
        return self.guest.request(self.loop, op, judge=judge, limit_s=limit_s, **fields)

    def _on_event(self, event: "dict[str, Any]") -> None:
        """An `exit` or `oom`.

        Errors  RpcError: it is of nothing that we know.
        """
        id, name = event.get("container"), event.get("process")
        member = self.members.get(id) if type(id) is str else None
        if member is None:
            raise RpcError("the guest tells of a container that it has not")
        if event["event"] == "oom":
            member.oom = True
            member.tell_watchers({"event": "oom"})
            return
        found = member.processes.get(name) if type(name) is str else None
        if found is None or found.end is not None:
            raise RpcError("the guest tells of the end of a process that it has not")
        end = check.end(event)
        if member.oom and found.name == INIT and end["signal"] == _SIGKILL:
            end["reason"] = "oom"
        found.ended(end)
        if found.name == INIT:
            member.tell_watchers(None)
        else:
            del member.processes[found.name]

    def left(self, member: Member, process_: GuestProcess) -> None:
        """Its shim is gone. One that was killed has written nothing, and its process lives (lifecycle 76)."""
        if process_.end is None:
            self._kill(member, process_)
        try:
            if process_.name == INIT:
                end = process_.end or ends.SHIM_LOST
                ends.write_missing(self.store, member.id, member.record["UniqueID"], end)
            else:
                ends.forget_exec(self.store, member.id, *process_.shim)
        except Error as error:
            self.log.debug(str(error))

    def _kill(self, member: Member, process_: GuestProcess) -> None:
        """Wait for nothing."""

        def told(future: Future) -> None:
            if future.error is not None:
                self.log.debug(str(future.error))

        name = process_.name
        asked = self.ask(
            "signal", container=member.id, process=name, signal=_SIGKILL, all=name == INIT
        )
        asked.then(told)

    def terminate(self, member: Member) -> "Steps":
        """Kill it, and wait for its end.

        Errors  RpcError where the guest does not answer.
        """
        init = member.init
        if init is None or not init.pid or init.end is not None:
            return
        gone = Future()
        init.on_end(gone.set)
        try:
            yield self.ask("signal", limit="KILL", container=member.id, process=INIT, signal=_SIGKILL, all=True)
        except Error as error:
            if init.end is None and self._lost is None:
                raise
            self.log.debug(str(error))
        yield self.loop.within(gone, timeouts.seconds("KILL"), f"container {member.id}, which was killed,")

    def shut_down(self) -> "Steps":
        """The owner's delete: all its containers end, then the VM."""
        self._lost = DELETED
        for member in list(self.members.values()):
            member.lost(DELETED)
        if self.guest is not None and self.guest.open:
            self.guest.request(self.loop, "shutdown")
            # It answers by ending.
            yield from self.host.stop(_POWEROFF_S)
        yield from self.end()
