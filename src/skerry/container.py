"""A container: its record, its engine, and what each verb does with them.

Runs in: every verb (hot; what only some verbs need is imported by them).
Imports: posix; errors, engine, linux.process, state.
Source:  docs/lifecycle.md; runtime-spec runtime.md.
Never:   prints, reads options, or keeps a fact that the store or the kernel has.

Making one is in creation.py, taking it away in deletion.py, another process in it in addition.py.
"""

import posix

from skerry import paths
from skerry.engine import ENGINES, engine_class
from skerry.errors import DamagedKey, Error, NoSuchKey
from skerry.linux import process
from skerry.log import SILENT
from skerry.state import record as records
from skerry.state import status as words
from skerry.state.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.addition import Process
    from skerry.log import Log
    from skerry.native.engine import NativeEngine

_SIGKILL = 9
# How long a process that got SIGKILL may take before something must be holding it back.
_HELD_BACK_S = 0.1


def open_store(root: str = "") -> Store:
    """The store of `--root`; nothing is made until something is created in it.

    Errors  UsageError for a root that cannot be one.
    """
    return Store(paths.run_root(root))


class Container:
    """One container.

    id, store, log
    record       the key `state`: ID Owner SandboxID HostID IsHost UniqueID HostUniqueID Bundle Created Rootfs ...
    console_fd   after `create` with a terminal and no console socket: the terminal's master, owned by the caller
    """

    __slots__ = ("_pidfd", "console_fd", "engine", "id", "log", "record", "store")

    def __init__(
        self, store: Store, id: str, record: "dict[str, Any]", log: "Log" = SILENT
    ) -> None:
        self.store = store
        self.id = id
        self.record = record
        self.log = log
        self.console_fd = -1
        self._pidfd = -1
        engine = engine_class(record.get("Isolation") or "process")
        # Or another with the same methods (engine.py).
        self.engine: NativeEngine = engine(store, id, log)

    @classmethod
    def create(
        cls,
        store: Store,
        id: str,
        *,
        bundle: str,
        spec: "dict[str, Any] | None" = None,
        owner: str = "",
        isolation: str = "",
        host: str = "",
        network_from: str = "",
        stdio: "tuple[int, int, int]" = (0, 1, 2),
        console_socket: str = "",
        detach: bool = True,
        preserve_fds: int = 0,
        pid_file: str = "",
        no_pivot: bool = False,
        new_keyring: bool = True,
        pidfd_socket: str = "",
        notify: bool = False,
        shim_log: str = "",
        vm_log: str = "",
        vm_console: str = "",
        log: "Log" = SILENT,
    ) -> "Container":
        """Make a container; its program waits for `start`.

        Shape   `spec` stands for the bundle's config.json if given; fds are borrowed.
                With `notify` the program gets a socket for sd_notify, see `start`.
        Errors  SpecError, AlreadyExists, and whatever the kernel refuses; nothing is left then.
        """
        from skerry.creation import Wishes, create

        wishes = Wishes()
        wishes.owner = owner
        wishes.isolation, wishes.host, wishes.network_from = isolation, host, network_from
        wishes.stdio = stdio
        wishes.console_socket = console_socket
        wishes.detach, wishes.preserve_fds = detach, preserve_fds
        wishes.pid_file = pid_file
        wishes.no_pivot, wishes.new_keyring = no_pivot, new_keyring
        wishes.pidfd_socket, wishes.notify = pidfd_socket, notify
        wishes.shim_log, wishes.vm_log, wishes.vm_console = shim_log, vm_log, vm_console
        return create(cls, store, id, bundle, spec, wishes, log)

    @classmethod
    def load(cls, store: Store, id: str, *, log: "Log" = SILENT) -> "Container":
        """A container by its id.

        Errors  NotFound; NoSuchKey where only a part of it is there, Damaged where it is no record of ours
                (`delete` with force removes both).
        """
        record = records.load(store, id)
        if record["Isolation"] not in ENGINES:
            raise DamagedKey(id, "state", "its isolation is unknown to this version of skerry")
        return cls(store, id, record, log)

    def spec(self) -> "dict[str, Any]":
        """The spec as it was at create."""
        spec = self.store.get(self.id, "spec")
        if type(spec) is not dict:
            raise DamagedKey(self.id, "spec", "it is not an object")
        return spec

    # what it is

    def status(self) -> str:
        """The status, from facts."""
        if self._has("exit"):
            return words.STOPPED
        if not self._has("shim"):
            creator = self.record["Creator"]
            alive = process.is_alive(creator["pid"], creator["start"])
            return words.CREATING if alive else words.STOPPED
        return self.engine.status()

    def state(self) -> "dict[str, Any]":
        """The OCI state, with owner.

        Source  runtime.md "State"; docs/lifecycle.md 101, 102.
        """
        status = self.status()
        pid = self.engine.pid()
        if status == words.STOPPED:
            pid = 0
        elif status == words.CREATING and not pid:
            pid = -1
        state = {
            "ociVersion": self.record.get("OciVersion") or "",
            "id": self.id,
            "pid": pid,
            "status": status,
            "bundle": self.record.get("Bundle") or "",
            "rootfs": self.record.get("Rootfs") or "",
            "created": self.record.get("Created") or "",
        }
        if self.record.get("Annotations"):
            state["annotations"] = self.record["Annotations"]
        state["owner"] = self.record.get("Owner") or ""
        return state

    def processes(self) -> "list[int]":
        """Pids of all its processes, ascending: the host's, or in a VM the guest's."""
        self._check("ps")
        return self.engine.processes()

    def process_table(self) -> "list[dict[str, str]] | None":
        """What ps shows of them where the host's own cannot; None where it can."""
        self._check("ps")
        return self.engine.process_table()

    def stats(self) -> "dict[str, Any]":
        """Figures as `events` prints them under `data`."""
        self._check("events")
        return self.engine.stats()

    @property
    def pidfd(self) -> int:
        """Of init, readable when it has ended; stays open until `close` or `delete`.

        Errors  StateError if it has ended already.
        """
        if self._pidfd < 0:
            _, self._pidfd = self.engine.init()
        return self._pidfd

    # what it does

    def start(self, *, notify_socket: str = "") -> None:
        """Let the program run; with `notify_socket` wait until it is ready or has ended, and tell that socket.

        Errors  StateError; HookError and InitError from what happens between the gate and execve.
        """
        if notify_socket:
            from skerry import readiness

            readiness.start(self, notify_socket)
            return
        if self._pidfd < 0:  # else this very object made it: the gate alone can tell
            self._check("start")
        self.engine.start(self.spec)
        hooks = (self.record.get("Hooks") or {}).get("poststart")
        if hooks:
            from skerry.hooks import run_host_hooks

            try:
                run_host_hooks("poststart", hooks, self.hook_state(words.RUNNING))
            except Error:
                self._kill(_SIGKILL, every=False)
                raise

    def send_signal(self, number: int) -> None:
        """Signal init; used while waiting for it, so an ended one is no error."""
        process.send_signal(self.pidfd, number)

    def kill(self, signal: int, *, all: bool = False) -> None:
        """Signal init, or every process; returns when it is delivered.

        Errors  StateError `container not running`; with `all` a stopped container is no error.
        """
        status = self.status()
        if all and status == words.STOPPED:
            self._kill_leftovers(signal)
            return
        words.check("kill", status, self.id)
        self._kill(signal, every=all)
        if signal == _SIGKILL and self.engine.has_init(_HELD_BACK_S):
            # Paused, or in a cgroup that the container has frozen itself.
            self.engine.thaw_below()

    def _kill(self, signal: int, *, every: bool) -> None:
        """Without an own pid namespace init's death would leave the others running."""
        if every or (signal == _SIGKILL and not self.record.get("PrivatePid", True)):
            self.engine.kill_all(signal)
        else:
            self.engine.signal(signal)

    def delete(self, *, force: bool = False) -> None:
        """Release everything and forget the container.

        Errors  StateError; ReleaseError, after which delete can be tried again.
        """
        from skerry.deletion import delete

        delete(self, force=force)
        self.close()

    def close(self) -> None:
        """Give back what the object holds of init; the container is left alone. Can be repeated."""
        if self._pidfd >= 0:
            posix.close(self._pidfd)
            self._pidfd = -1

    def pause(self) -> None:
        self._check("pause")
        self.engine.pause()

    def resume(self) -> None:
        self._check("resume")
        self.engine.resume()

    def update(self, resources: "dict[str, Any]", *, pointer: str = "") -> None:
        """Change limits; all of them, or none.

        Errors  SpecError below `pointer`; KernelError.
        """
        from skerry.spec.validate import check_resources

        self._check("update")
        for warning in check_resources(resources, pointer):
            self.log.warning(warning)
        self.engine.update(resources, pointer)

    def exec(
        self,
        process: "dict[str, Any]",
        *,
        stdio: "tuple[int, int, int]" = (0, 1, 2),
        console_socket: str = "",
        detach: bool = False,
        preserve_fds: int = 0,
        pid_file: str = "",
        cgroup: str = "",
        ignore_paused: bool = False,
        pidfd_socket: str = "",
    ) -> "Process":
        """Run another process in it.

        Shape   `process` as in the spec; fds are borrowed.
        Errors  StateError, SpecError with pointers into `process`, InitError.
        """
        from skerry.addition import Wishes, add

        wishes = Wishes()
        wishes.stdio = stdio
        wishes.console_socket = console_socket
        wishes.detach = detach
        wishes.preserve_fds = preserve_fds
        wishes.pid_file = pid_file
        wishes.pidfd_socket = pidfd_socket
        wishes.cgroup = cgroup
        wishes.ignore_paused = ignore_paused
        self._check("exec --ignore-paused" if ignore_paused else "exec")
        return add(self, process, wishes)

    def resize(self, width: int, height: int, *, pid: "int | None" = None) -> None:
        """Set the size of the terminal of init, or of the exec with this host pid.

        Errors  NoSuchKey for an exec that is not there; Error for a process without a terminal.
        """
        self._check("resize-tty")
        self.engine.resize(width, height, pid)

    def wait(self) -> int:
        """Wait for init, a child of this process, and record its end.

        Wait for its execs first: the kernel lets the init of a pid namespace end when they have been reaped, by us.
        Result  its exit code, or 128 + signal; 255 if unknown.
        """
        ended = process.wait_exit(self.pidfd)
        code, signal = ended if ended is not None else (255, 0)
        if self.engine.writes_exit:
            self._tell_end()
        else:
            self.record_end(code, signal, "exit")
        return code

    def _tell_end(self) -> None:
        """Warn if it is the VM that has ended."""
        try:
            end = self.store.get(self.id, "exit")
        except Error:
            return
        if type(end) is dict and end.get("message"):
            self.log.warning(str(end["message"]))

    # for the rest of the core

    def record_end(self, code: int, signal: int, reason: str) -> None:
        """Write the key `exit`; without it (deleted by another, no room) the facts still say stopped."""
        import time

        end = {"code": code, "signal": signal, "reason": reason, "time": time.time()}
        try:
            self.store.set(self.id, "exit", end)
        except Error as error:
            self.log.debug(str(error))

    def take_init(self, pidfd: int, console_fd: int) -> None:
        """Take ownership of what create has open for init."""
        self._pidfd = pidfd
        self.console_fd = console_fd

    def take_pidfd(self) -> int:
        """Take ownership of init's pidfd away from the object."""
        pidfd, self._pidfd = self.pidfd, -1
        return pidfd

    def hook_state(self, status: str) -> "dict[str, Any]":
        """The state that hooks on the host read."""
        state = {
            "ociVersion": self.record.get("OciVersion") or "",
            "id": self.id,
            "status": status,
            "pid": self.engine.hook_pid() if status == words.RUNNING else 0,
            "bundle": self.record.get("Bundle") or "",
        }
        if self.record.get("Annotations"):
            state["annotations"] = self.record["Annotations"]
        return state

    def _kill_leftovers(self, signal: int) -> None:
        """After init's end: processes that shared its pid namespace with others."""
        try:
            self.engine.kill_all(signal)
        except Error:
            return

    def _has(self, key: str) -> bool:
        try:
            self.store.get(self.id, key)
        except NoSuchKey:
            return False
        return True

    def _check(self, verb: str) -> None:
        words.check(verb, self.status(), self.id)


def delete(store: Store, id: str, *, force: bool = False, log: "Log" = SILENT) -> None:
    """Delete by id, also where the record is missing or damaged; with `force` NotFound is no error."""
    from skerry.deletion import delete_id

    delete_id(Container, store, id, force=force, log=log)
