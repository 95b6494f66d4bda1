"""Containers as processes of this kernel: namespaces and cgroups.

Runs in: every verb (hot).   Imports: posix, errno; linux, state, native (the heavy ones where they are used).
Source:  engine.py says what each method is for.
Never:   writes keys other than `resources`; the core does.
"""

import errno
import posix

from skerry import timeouts
from skerry.errors import (
    DamagedKey,
    EngineError,
    Error,
    InitError,
    KernelError,
    StateError,
)
from skerry.linux import process
from skerry.native import gate, release
from skerry.state import processes
from skerry.state import status as words
from skerry.state.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skerry.engine import Options
    from skerry.log import Log
    from skerry.native.cgroup.group import Cgroup
    from skerry.native.cgroup.limits import Write
    from skerry.native.cgroup.oom import OomWatch
    from skerry.native.create import Creation
    from skerry.native.exec import Execution
    from skerry.state.store import Store

_SIGKILL = 9
# Where init is found; before `pid` is written its shim is the same process.
_INIT = ("pid", "shim")
# Most die at once; after that something holds them back, and the whole cgroup is thawed and killed.
_PATIENCE_S = 0.2


class NativeEngine:
    """The engine for one id."""

    __slots__ = ("_id", "_journal", "_log", "_store")

    writes_exit = False

    def __init__(self, store: "Store", id: str, log: "Log") -> None:
        self._store = store
        self._id = id
        self._log = log
        self._journal: Journal | None = None  # of the create that this object did

    # making

    def create(
        self, spec: "dict[str, Any]", record: "dict[str, Any]", options: "Options"
    ) -> "Creation":
        """Build the container up to its gate.

        Errors  EngineError the second time; whatever stopped it: what is in the journal then is still to be released.
        """
        from skerry.native.create import Creation

        if self._journal is not None:
            raise EngineError("container already created", id=self._id, operation="create")
        creation = Creation(self._store, self._id, spec, record, options, self._log)
        self._journal = creation.journal
        creation.run()
        return creation

    def start(self, spec_of: "Callable[[], dict[str, Any]]") -> None:
        """Open the gate and wait until the program runs.

        `spec_of` reads the spec, to name the step of a failure; called only then.
        Errors  StateError where another start was quicker; InitError, HookError.
        """
        directory = self._store.directory(self._id)
        try:
            limit = timeouts.seconds("START", warn=self._log.warning)
            record = gate.open_gate(directory, limit)
        except gate.TakenError:
            status = self.status()
            words.check("start", words.RUNNING if status == words.CREATED else status, self._id)
            raise StateError(
                "cannot start an already running container",
                id=self._id,
                status=status,
                verb="start",
            ) from None
        finally:
            posix.close(directory)
        if record is not None:
            from skerry.native.failure import explain_start

            recorded = self._store.get(self._id, "pid")
            count = recorded.get("ops") or 0 if type(recorded) is dict else 0
            raise explain_start(self._id, spec_of(), record, count)

    def refuse(self, options: "Options", *, pidfd_socket: bool) -> None:
        """Nothing is beyond it."""

    def keep_network(self, record: "dict[str, Any]", pid: int, pidfd: int) -> str:
        """The path of the network namespace; that of a sandbox is kept until release, whatever becomes of init."""
        network: str | None = record["NetworkNamespace"]
        if network is None or network:
            return network or ""
        if record["SandboxID"] == self._id:
            from skerry.native.holder import hold

            pid = hold(Journal.load(self._store, self._id), pidfd, self._id)
        return f"/proc/{pid}/ns/net"

    def exec(
        self,
        spec: "dict[str, Any]",
        process_: "dict[str, Any]",
        options: "Options",
        *,
        bundle: str,
        sub_cgroup: str,
    ) -> "Execution":
        """Build an additional process up to READY.

        Errors  whatever stopped it; nothing is left then.
        """
        from skerry.native.exec import Execution

        pid, pidfd = self.init()
        try:
            cgroup = self.cgroup()
            if sub_cgroup:
                cgroup = cgroup.leaf(sub_cgroup)
            while True:
                execution = Execution(
                    self._store, self._id, spec, process_, options, self._log,
                    bundle=bundle, init_pid=pid, init_pidfd=pidfd, cgroup=cgroup,
                )  # fmt: skip
                try:
                    execution.run()
                    return execution
                except (InitError, KernelError) as error:
                    inner = cgroup.current(pid)
                    if error.errno != errno.EBUSY or sub_cgroup or inner.paths == cgroup.paths:
                        raise
                    # It enabled controllers for cgroups of its own; then v2 takes no process at the top.
                    cgroup = inner
        finally:
            posix.close(pidfd)

    # facts

    def init(self) -> "tuple[int, int]":
        """(pid, pidfd) of init.

        Errors  StateError if it has ended.
        Owns    the caller closes the pidfd.
        """
        return processes.open_recorded(self._store, self._id, *_INIT)

    def status(self) -> str:
        """Which status the facts amount to, once the container has a shim."""
        found = processes.recorded(self._store, self._id, *_INIT)
        if found is None or not process.is_alive(*found):
            return words.STOPPED
        if self._is_frozen():
            return words.PAUSED
        directory = self._store.directory(self._id)
        try:
            return words.CREATED if gate.stands(directory) else words.RUNNING
        finally:
            posix.close(directory)

    def pid(self) -> int:
        """The host's pid of init, 0 without one."""
        found = processes.recorded(self._store, self._id, "pid")
        return found[0] if found else 0

    hook_pid = pid

    def processes(self) -> "list[int]":
        return self.cgroup().processes()

    def process_table(self) -> "list[dict[str, str]] | None":
        """None: the host's ps knows the pids."""
        return None

    def stats(self) -> "dict[str, Any]":
        return self.cgroup().stats()

    def oom_watch(self) -> "OomWatch":
        return self.cgroup().oom_watch()

    def cgroup(self) -> "Cgroup":
        """Errors  EngineError where the journal has none."""
        from skerry.native.cgroup.tree import from_record

        items = Journal.load(self._store, self._id).of("cgroup")
        if not items:
            raise EngineError(f"container {self._id} has no cgroup on record", id=self._id)
        return from_record(items[0].get("cgroup") or {})

    # acting

    def signal(self, number: int, _exec_pid: int = 0) -> None:
        """Signal init; a frozen one takes it when it is thawed. An exec of the host's has a pidfd for that."""
        _, pidfd = self.init()
        try:
            if not process.send_signal(pidfd, number):
                raise StateError(
                    "container not running", id=self._id, status=words.STOPPED, verb="kill"
                )
        finally:
            posix.close(pidfd)

    def kill_all(self, number: int) -> None:
        self.cgroup().kill(number)

    def kill_creation(self) -> None:
        """Kill what another process is just making, as far as it is on record."""
        journal = Journal.load(self._store, self._id)
        release.kill_processes(journal)
        if any(item.get("entered") for item in journal.of("cgroup")):
            self.kill_all(_SIGKILL)

    def pause(self) -> None:
        self.cgroup().freeze()

    def resume(self) -> None:
        self.cgroup().thaw()

    def thaw_below(self) -> None:
        """Thaw what the container has frozen itself, too: the v1 freezer holds even SIGKILL back."""
        from skerry.native.cgroup import freezer

        freezer.thaw_below(self.cgroup())

    def update(self, resources: "dict[str, Any]", pointer: str) -> None:
        """Change limits; if one cannot be set, those already set are put back."""
        cgroup = self.cgroup()
        cgroup.check(resources, pointer)
        program = cgroup.device_program(resources, pointer) if "devices" in resources else None
        saved = cgroup.save_limits(resources, pointer)
        try:
            cgroup.apply(resources, pointer)
            if program is not None:
                from skerry.native.devices import replace_filter

                # Last, for it is done as a whole or not at all, and nothing would bring the old one back.
                replace_filter(cgroup, program, self._id, f"{pointer}/devices")
        except BaseException:
            self._restore(cgroup, saved)
            raise

    def _restore(self, cgroup: "Cgroup", saved: "list[Write]") -> None:
        """Put limits back; why they had to be is the error to tell, so a second one is only logged."""
        try:
            cgroup.restore(saved)
        except Error as error:
            self._log.warning(f"cannot put the limits of container {self._id} back: {error}")

    def has_init(self, timeout_s: float) -> bool:
        """Wait for the end of init; whether it is still there then. It is not reaped."""
        return processes.lives_on(self._store, self._id, *_INIT, timeout_s=timeout_s)

    def resize(self, width: int, height: int, pid: "int | None") -> None:
        from skerry.native import terminal

        terminal.resize(self._store, self._id, self.init(), width, height, pid)

    def destroy(self, limit_s: float) -> bool:
        """SIGKILL, thawed if need be, and wait until init runs no more; reap it if it is our child."""
        try:
            self.signal(_SIGKILL)
            if self.has_init(_PATIENCE_S):
                self.kill_all(_SIGKILL)
        except StateError:
            return True  # it ended by itself
        except Error as error:
            self._log.debug(str(error))
        found = processes.recorded(self._store, self._id, *_INIT)
        pidfd = process.open_pidfd(*found) if found else None
        if found is None or pidfd is None:
            return True
        try:
            return release.end(found[0], pidfd, limit_s)
        finally:
            posix.close(pidfd)

    # releasing

    def release(self) -> bool:
        """Release what the journal lists, last first; whether there was anything.

        Errors  ReleaseError with every cause; what failed stays on record for another try.
        """
        journal = Journal.load(self._store, self._id)
        if not journal.of("cgroup") and processes.recorded(self._store, self._id, "shim"):
            raise DamagedKey(self._id, "resources", "no cgroup is on record")
        for item in journal.items:
            cause = release.unreadable(item)
            if cause:
                raise DamagedKey(self._id, "resources", cause)
        return release.release_all(journal)

    def release_own(self) -> None:
        """Release what this very object has made, although the id is no more: a delete did not wait for us."""
        if self._journal is not None:
            items = [*self._journal.items]
            release.release_all(Journal(self._store, self._id, items))

    def release_remains(self) -> None:
        """Release what damaged facts still tell of."""
        release.release_remains(self._store, self._id, self._log)

    def _is_frozen(self) -> bool:
        try:
            return self.cgroup().frozen()
        except Error:
            return False
