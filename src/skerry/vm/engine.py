"""Containers in utility VMs, as the core calls them: each call is a request to the VM's vmshim.

Runs in: every verb of a VM container.   Imports: posix, select; errors, linux, rpc.requests, state, vm (late).
Source:  engine.py says what each method is for; docs/lifecycle.md; docs/vm.md.
Never:   talks to a guest, or writes keys.
"""

import posix

from skerry import paths, timeouts
from skerry.errors import (
    EngineError,
    NoSuchKey,
    NotFound,
    RpcError,
    UsageError,
    VmUnreachable,
)
from skerry.linux import process
from skerry.rpc.requests import Peer
from skerry.state import processes
from skerry.state import record as records
from skerry.state import status as words
from skerry.state.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skerry.engine import Options
    from skerry.log import Log
    from skerry.state.store import Store
    from skerry.vm.shim import Built

_SIGKILL = 9
# An answer passes two processes, each with the same limit.
_MARGIN_S = 5
# How long a status may take: `list` asks for many.
_STATUS_S = 5
# A delete may take 30 s, whatever the guest does (lifecycle 144): so long for each step, and less once it was late.
_END_S, _IMPATIENT_S = 8, 3
# A shim ends when what the container wrote is out; a reader that does not read must not hold up a delete.
_LAST_OUTPUT_S = 2


class VmEngine:
    """The engine for one id."""

    __slots__ = ("_id", "_is_late", "_log", "_record", "_store")

    writes_exit = True

    def __init__(self, store: "Store", id: str, log: "Log") -> None:
        self._store, self._id, self._log = store, id, log
        self._record: dict[str, Any] | None = None
        self._is_late = False  # the VM did not answer in time

    # making

    def refuse(self, options: "Options", *, pidfd_socket: bool) -> None:
        """What a process in a guest cannot be given.

        Errors  UsageError naming the flag.
        """
        if options.preserve:
            raise UsageError("cannot use --preserve-fds: a descriptor of the host does not reach into a VM")
        if pidfd_socket:
            raise UsageError("cannot use --pidfd-socket: a process in a VM has no pidfd on the host")

    def create(
        self, spec: "dict[str, Any]", record: "dict[str, Any]", options: "Options"
    ) -> "Built":
        """The VM if it is ours, the hooks of the host, the container in the guest, its shim.

        Errors  whatever stopped it: what is in the journal then is still to be released.
        """
        from skerry.vm.create import create

        self._record = record
        return create(self._store, spec, record, options, self._log)

    def start(self, _spec_of: "Callable[[], dict[str, Any]]") -> None:
        """Errors  StateError where another start was quicker; what the guest says."""
        record = self._facts()
        shim = Peer(self._directory(), record["UniqueID"], record["HostID"])
        limit = timeouts.seconds("START", warn=self._log.warning) + _MARGIN_S
        try:
            shim.listen_for_answer(limit_s=limit)
        except VmUnreachable as error:
            status = self.status()
            words.check("start", words.RUNNING if status == words.CREATED else status, self._id)
            raise error

    def exec(
        self,
        _spec: "dict[str, Any]",
        process_: "dict[str, Any]",
        options: "Options",
        *,
        bundle: str,
        sub_cgroup: str,
    ) -> "Built":
        """An additional process, which runs already, and its shim."""
        from skerry.vm import shim

        execution = {
            "process": process_,
            "cgroup": sub_cgroup,
            "ignore_paused": options.ignore_paused,
        }
        return shim.start(self._store, self._facts(), process_, options, self._log, execution=execution)

    def keep_network(self, _record: "dict[str, Any]", _pid: int, _pidfd: int) -> str:
        """The vmshim has written it down itself."""
        return ""

    # facts

    def init(self) -> "tuple[int, int]":
        """(pid, pidfd) of the shim.

        Errors  StateError if it has ended.
        Owns    the caller closes the pidfd.
        """
        return processes.open_recorded(self._store, self._id, "shim")

    def status(self) -> str:
        """The guest's word; stopped where the shim or the VM is gone, unknown where nobody answers."""
        found = self._shim()
        if found is None or not process.is_alive(*found):
            return words.STOPPED
        try:
            answer = self._ask("status", limit_s=_STATUS_S)
        except VmUnreachable as error:
            return words.UNKNOWN if error.is_late else words.STOPPED
        except NotFound:
            return words.STOPPED
        except RpcError:
            return words.UNKNOWN
        word: str = answer["status"]
        if word == words.STOPPED:
            # Its last output is on the way; who sees it stopped may delete it at once.
            self.has_init(_LAST_OUTPUT_S)
        return word

    def pid(self) -> int:
        """The host's pid of the shim, 0 without one."""
        found = self._shim()
        return found[0] if found else 0

    def hook_pid(self) -> int:
        """A process of the host whose network is the VM's (lifecycle 130)."""
        from skerry.vm.create import network_pid

        return network_pid(self._store, self._facts()) or self.pid()

    def processes(self) -> "list[int]":
        """Pids of the guest."""
        pids: list[int] = self._ask("processes")["pids"]
        return pids

    def process_table(self) -> "list[dict[str, str]]":
        """What the guest's own ps would show."""
        table: list[dict[str, str]] = self._ask("processes")["table"]
        return table

    def stats(self) -> "dict[str, Any]":
        """The container's figures as for any other, and under `vm` the VM's."""
        answer = self._ask("stats")
        return {**answer["container"], "vm": answer["vm"]}

    def oom_watch(self) -> "Watch":
        fd, _ = self._peer().open(self._id, "watch", limit_s=_STATUS_S)
        return Watch(fd)

    # acting

    def signal(self, number: int, exec_pid: int = 0) -> None:
        """Signal init, or the exec with this host pid.

        Errors  NoSuchKey for an exec that is not there.
        """
        self._ask("signal", {"process": self._name_of(exec_pid), "signal": number, "all": False})

    def kill_all(self, number: int) -> None:
        self._ask("signal", {"process": "init", "signal": number, "all": True})

    def kill_creation(self) -> None:
        """The VM that another process is just making, or what it makes in one."""
        from skerry.vm import release

        if self._facts().get("IsHost"):
            release.kill_vmshim(Journal.load(self._store, self._id))
        else:
            self._ask("terminate", limit_s=_END_S)

    def pause(self) -> None:
        self._ask("pause", limit="PAUSE")

    def resume(self) -> None:
        self._ask("resume", limit="RESUME")

    def thaw_below(self) -> None:
        """The guest's own skerry has done so."""

    def update(self, resources: "dict[str, Any]", pointer: str) -> None:
        self._ask("update", {"resources": resources, "pointer": pointer})

    def resize(self, width: int, height: int, pid: "int | None") -> None:
        """Errors  NoSuchKey for an exec that is not there."""
        self._ask("resize", {"process": self._name_of(pid or 0), "width": width, "height": height})

    def has_init(self, timeout_s: float) -> bool:
        return processes.lives_on(self._store, self._id, "shim", timeout_s=timeout_s)

    def destroy(self, limit_s: float) -> bool:
        """Kill it and wait for its end; where the guest does not answer, its shim."""
        try:
            self._ask("terminate", limit_s=_IMPATIENT_S if self._is_late else _END_S)
        except (NotFound, RpcError, VmUnreachable) as error:
            self._log.warning(str(error))
            self._kill_shim()
        found = self._shim()
        pidfd = process.open_pidfd(*found) if found else None
        if pidfd is None:
            return True
        try:
            if not process.has_ended(pidfd, min(limit_s, _END_S)):
                # Its output has no reader, and nobody waits for that any more.
                self._kill_shim()
            if not process.has_ended(pidfd, limit_s):
                return False
            process.wait_exit(pidfd, 0)
            return True
        finally:
            posix.close(pidfd)

    # releasing

    def release(self) -> bool:
        """Errors  ReleaseError; what failed stays on record for another try."""
        from skerry.vm import release

        had = release.release_guest(
            self._store, self._facts(), self._peer(), self._log, is_late=self._is_late
        )
        self.has_init(_LAST_OUTPUT_S)
        self._kill_shim()
        release.release_host(self._store, self._facts(), self._peer())
        return had

    def release_own(self) -> None:
        """What a create has made is the vmshim's, which finds out by itself that its id is no more."""

    def release_remains(self) -> None:
        from skerry.vm import release

        release.release_remains(self._store, self._id, self._log)

    # for us

    def _kill_shim(self) -> None:
        found = self._shim()
        pidfd = process.open_pidfd(*found) if found else None
        if pidfd is not None:
            process.send_signal(pidfd, _SIGKILL)
            process.has_ended(pidfd, _END_S)
            process.wait_exit(pidfd, 0)
            posix.close(pidfd)

    def _name_of(self, pid: int) -> object:
        """How the vmshim calls the process that this one of the host stands for; 0 is init."""
        if not pid or pid == self.pid():
            return "init"
        key = f"exec-{pid}"
        value = self._store.get(self._id, key)
        if type(value) is not dict or not process.is_alive(pid, value.get("start") or 0):
            raise NoSuchKey(self._id, key)
        return value.get("pid")

    def _facts(self) -> "dict[str, Any]":
        if self._record is None:
            self._record = records.load(self._store, self._id)
        return self._record

    def _directory(self) -> str:
        return paths.vm_dir(self._store.root, self._facts()["HostUniqueID"])

    def _peer(self) -> Peer:
        return Peer(self._directory(), paths.VMSHIM, self._facts()["HostID"])

    def _ask(
        self, op: str, value: object = None, *, limit: str = "ANSWER", limit_s: float = 0
    ) -> "Any":
        limit_s = limit_s or timeouts.seconds(limit, warn=self._log.warning) + _MARGIN_S
        try:
            return self._peer().ask(self._id, op, value, limit_s=limit_s)
        except VmUnreachable as error:
            self._is_late = self._is_late or error.is_late
            raise

    def _shim(self) -> "tuple[int, int] | None":
        return processes.recorded(self._store, self._id, "shim")


class Watch:
    """Out-of-memory events, as lines from the vmshim."""

    __slots__ = ("_fd", "_silence")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._silence: tuple[int, ...] = ()
        posix.set_blocking(fd, False)

    def fileno(self) -> int:
        return self._fd

    def happened(self) -> bool:
        try:
            if posix.read(self._fd, 65536):
                return True
        except BlockingIOError:
            return False
        except OSError as error:
            if self._silence:
                raise EngineError(f"cannot watch: {error.strerror}") from error
        self._fall_silent()
        return False

    def _fall_silent(self) -> None:
        """The container has ended: whoever polls the number must not be woken for ever."""
        self._silence = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        posix.dup2(self._silence[0], self._fd, inheritable=False)

    def close(self) -> None:
        for fd in (self._fd, *self._silence):
            posix.close(fd)
