"""Containers as processes of this kernel: namespaces and cgroups.

Runs in: every verb (hot).   Imports: posix; linux, state, native (the heavy ones where they are used).
Source:  engine.py says what each method is for.
Never:   writes keys other than `resources`; the core does.
"""

import posix

from skerry import timeouts
from skerry.errors import (
    DamagedKey,
    EngineError,
    Error,
    KernelError,
    NoSuchKey,
    ReleaseError,
    StateError,
)
from skerry.linux import process
from skerry.native import gate
from skerry.state import status as words
from skerry.state.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skerry.engine import Options
    from skerry.log import Log
    from skerry.native.cgroup.group import Cgroup
    from skerry.native.create import Creation
    from skerry.native.exec import Execution
    from skerry.plan.build import Plan
    from skerry.state.store import Store

_SIGKILL = 9


class NativeEngine:
    """The engine for one id."""

    __slots__ = ("_id", "_log", "_store")

    def __init__(self, store: "Store", id: str, log: "Log") -> None:
        self._store = store
        self._id = id
        self._log = log

    # making

    def create(
        self, spec: "dict[str, Any]", record: "dict[str, Any]", options: "Options"
    ) -> "Creation":
        """Build the container up to its gate.

        Errors  whatever stopped it; what is in the journal then is still to be released.
        """
        from skerry.native.create import Creation

        creation = Creation(self._store, self._id, spec, record, options, self._log)
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

    def hold_network(self, init_pidfd: int) -> str:
        """Keep init's network namespace until release, whatever becomes of init; its path."""
        from skerry.native.holder import hold

        return f"/proc/{hold(Journal.load(self._store, self._id), init_pidfd, self._id)}/ns/net"

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
            execution = Execution(
                self._store, self._id, spec, process_, options, self._log,
                bundle=bundle, init_pid=pid, init_pidfd=pidfd, cgroup=cgroup,
            )  # fmt: skip
            execution.run()
            return execution
        finally:
            posix.close(pidfd)

    # facts

    def init(self) -> "tuple[int, int]":
        """(pid, pidfd) of init.

        Errors  StateError if it has ended.
        Owns    the caller closes the pidfd.
        """
        found = self._recorded("pid") or self._recorded("shim")
        pidfd = process.open_pidfd(*found) if found else None
        if found is None or pidfd is None:
            raise StateError(
                "container not running", id=self._id, status=words.STOPPED, verb="signal"
            )
        return found[0], pidfd

    def status(self) -> str:
        """Which status the facts amount to, once the container has a shim."""
        found = self._recorded("pid") or self._recorded("shim")
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
        found = self._recorded("pid")
        return found[0] if found else 0

    def processes(self) -> "list[int]":
        return self.cgroup().processes()

    def stats(self) -> "dict[str, Any]":
        return self.cgroup().stats()

    def cgroup(self) -> "Cgroup":
        """Errors  EngineError where the journal has none."""
        from skerry.native.cgroup.tree import from_record

        items = Journal.load(self._store, self._id).of("cgroup")
        if not items:
            raise EngineError(f"container {self._id} has no cgroup on record", id=self._id)
        return from_record(items[0].get("cgroup") or {})

    # acting

    def signal(self, number: int) -> None:
        """Signal init; SIGKILL also reaches a frozen one, and all processes where they would stay behind."""
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

    def pause(self) -> None:
        self.cgroup().freeze()

    def resume(self) -> None:
        self.cgroup().thaw()

    def update(self, resources: "dict[str, Any]", pointer: str) -> None:
        """Change limits; if one cannot be set, those already set are put back."""
        cgroup = self.cgroup()
        for warning in cgroup.check(resources, pointer):
            self._log.warning(warning)
        saved = cgroup.save_limits(resources, pointer)
        try:
            cgroup.apply(resources, pointer)
        except Error:
            cgroup.restore(saved)
            raise

    def wait_for_init(self, timeout_s: int) -> bool:
        """Wait until init is gone; reaps it if it is our child."""
        found = self._recorded("pid") or self._recorded("shim")
        pidfd = process.open_pidfd(*found) if found else None
        if pidfd is None:
            return True
        try:
            return _ended(pidfd, timeout_s)
        finally:
            posix.close(pidfd)

    # releasing

    def release(self) -> None:
        """Release what the journal lists, last first.

        Errors  ReleaseError with every cause; what failed stays on record for another try.
        """
        journal = Journal.load(self._store, self._id)
        if not journal.of("cgroup") and self._recorded("shim"):
            raise DamagedKey(self._id, "resources", "no cgroup is on record")
        causes = []
        for item in reversed(journal.items[:]):
            try:
                _RELEASE.get(item.get("kind", ""), _unknown)(item)
            except Error as error:
                causes.append(str(error))
            else:
                journal.items.remove(item)
        if causes:
            # What is gone can be released again without harm, so one write at the end is enough.
            journal.save()
            raise ReleaseError(causes)

    def release_remains(self) -> None:
        """Release what can still be found where the journal or another key is missing or damaged.

        Errors  as `release`, for what was found.
        """
        for key in ("pid", "shim"):
            try:
                found = self._recorded(key)
            except DamagedKey as error:
                self._log.warning(str(error))
            else:
                if found is not None:
                    _release_process({"pid": found[0], "start": found[1]})
        try:
            self.release()
        except DamagedKey as error:
            self._log.warning(str(error))
        self._release_cgroup_by_spec()

    def _release_cgroup_by_spec(self) -> None:
        """Where the spec says that the cgroup is; what is there by the container's name is the container's."""
        from skerry.native.cgroup.tree import open_cgroup, read_layout

        try:
            spec = self._store.get(self._id, "spec")
        except (NoSuchKey, DamagedKey) as error:
            self._log.debug(str(error))
            return
        linux = spec.get("linux") or {} if type(spec) is dict else {}
        cgroup = open_cgroup(read_layout(), linux.get("cgroupsPath") or "", self._id)
        cgroup.made[:] = cgroup.leaves
        _empty(cgroup)

    def _is_frozen(self) -> bool:
        try:
            return self.cgroup().frozen()
        except Error:
            return False

    def _recorded(self, key: str) -> "tuple[int, int] | None":
        try:
            value = self._store.get(self._id, key)
        except NoSuchKey:
            return None
        if type(value) is not dict or type(value.get("pid")) is not int:
            return None
        return value["pid"], value.get("start") or 0


def plan_of(bundle: str) -> "Plan":
    """The plan that create would make of a bundle; changes nothing.

    Errors  as create.
    """
    from skerry import paths
    from skerry.engine import Options
    from skerry.log import SILENT
    from skerry.native.create import Creation
    from skerry.spec.load import load_bundle
    from skerry.spec.validate import check_spec
    from skerry.state.store import Store

    spec, _ = load_bundle(bundle)
    check_spec(spec)
    options = Options()
    options.console = bool((spec.get("process") or {}).get("terminal"))
    record = {"Bundle": bundle, "Rootfs": rootfs_of(spec, bundle)}
    return Creation(Store(paths.run_root()), "plan", spec, record, options, SILENT).plan


def rootfs_of(spec: "dict[str, Any]", bundle: str) -> str:
    path = (spec.get("root") or {}).get("path") or ""
    return path if path.startswith("/") else f"{bundle}/{path}"


def _ended(pidfd: int, timeout_s: int) -> bool:
    import select

    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    ended = bool(poller.poll(timeout_s * 1000))
    if ended:
        process.wait_exit(pidfd, 0)
    return ended


def _release_process(item: "dict[str, Any]") -> None:
    """A process that may still be on its way through its plan, or a holder."""
    pidfd = process.open_pidfd(item.get("pid") or 0, item.get("start") or 0)
    if pidfd is None:
        return
    try:
        process.send_signal(pidfd, _SIGKILL)
        if not _ended(pidfd, timeouts.seconds("KILL")):
            raise KernelError("end", f"process {item['pid']}", 110)
    finally:
        posix.close(pidfd)


def _release_cgroup(item: "dict[str, Any]") -> None:
    from skerry.native.cgroup.tree import from_record

    _empty(from_record(item.get("cgroup") or {}))


def _empty(cgroup: "Cgroup") -> None:
    if cgroup.processes():
        cgroup.kill(_SIGKILL)
    cgroup.remove()


def _unknown(item: "dict[str, Any]") -> None:
    raise EngineError(
        f"cannot release {item.get('kind')!r}: this version of skerry does not know it"
    )


_RELEASE = {"process": _release_process, "cgroup": _release_cgroup, "holder": _release_process}
