"""One container's cgroup: the same cgroup in every hierarchy of the host, as one object.

Runs in: create start exec state kill delete (hot).
Imports: posix errno errors linux.cgroupfs; the other files of this folder where they are used.
Source:  cgroups(7); lifecycle.md 118-121.
Never:   keeps an fd or a value: what it says is read from the kernel each time.

Life: `open_cgroup` names it, `record` is stored, `create` makes it, `apply` limits it, `attach` (or
a birth in `join_fd`) fills it, `kill` empties it, `remove` takes away what `create` made.
"""

import errno
import posix

from skerry.errors import EngineError, KernelError
from skerry.linux import cgroupfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.native.cgroup.limits import Write
    from skerry.native.cgroup.oom import OomWatch

    # limits, and (file, line, pointer) of the v1 device list
    Prepared = tuple[list[Write], list[tuple[str, str, str]]]

RESOURCES = "/linux/resources"
# where to look for the processes of a v1 container: all hierarchies have the same, these cost least
_ROLL = ("pids", "freezer", "devices", "memory")
_FROZEN_SIGNS = (("freezer.state", "FR"), ("cgroup.events", "frozen 1"))
_CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")
_ATTACH_HINTS = {
    errno.EBUSY: "it has controllers enabled for its children, and v2 then takes no process",
    errno.EOPNOTSUPP: "the cgroup is threaded, or below a threaded one",
    errno.ENOSPC: "its cpuset.cpus or cpuset.mems is empty",
    errno.EINVAL: "a real-time process needs cpu.rt_runtime_us, a thread cannot be moved alone",
}


class Cgroup:
    """The cgroup of a container.

    Shape   paths: controller -> directory, "" for the v2 tree; made: what `create` makes, parents
            first; unified: the mount point of v2, or "".
    """

    __slots__ = ("_fresh", "kind", "made", "paths", "unified")

    def __init__(self, kind: str, paths: dict[str, str], made: list[str], unified: str) -> None:
        self.kind, self.paths, self.made, self.unified = kind, paths, made, unified
        self._fresh = False

    @property
    def record(self) -> "dict[str, Any]":
        """All that `tree.from_record` needs, as JSON. Store it before `create`."""
        return {"kind": self.kind, "paths": self.paths, "made": self.made, "top": self.unified}

    @property
    def leaves(self) -> list[str]:
        """The directories of this cgroup, one for each hierarchy."""
        return list(dict.fromkeys(self.paths.values()))

    def is_v2(self, controller: str, /) -> bool:
        """Say whether a controller (or "", the core) is to be had in the v2 tree."""
        return "" in self.paths and self.paths.get(controller) == self.paths[""]

    def is_enabled(self, controller: str, /) -> bool:
        return controller in cgroupfs.read_or(f"{self.paths['']}/cgroup.controllers").split()

    # making and filling

    def create(self) -> None:
        """Make the cgroup and its parents.

        Errors  EngineError if in use by others or frozen; KernelError. `remove` undoes a part.
        """
        self.refuse_busy()
        leaves = self.leaves
        wanted = self.made[:]
        for position, path in enumerate(wanted):
            if not self._make(path) and path in leaves:
                # in the other hierarchies it is or will be that process's too
                for other in wanted[position:]:
                    self.made.remove(other)
                raise EngineError(f"cannot make cgroup {path}: another process has just made it")
        if "cpuset" in self.paths and not self.is_v2("cpuset"):
            self._inherit_cpuset()
        if self.kind == "v2":
            from skerry.native.cgroup import v2

            wanted = [name for name in v2.ACCOUNTING if name in self.paths]
            v2.enable(self, wanted, needed=False)
        self._fresh = True

    def _make(self, path: str) -> bool:
        """Make a cgroup; its parent too, should the last other user just have taken it away."""
        try:
            return cgroupfs.make(path)
        except KernelError as error:
            above = path.rpartition("/")[0]
            # where the hierarchy itself is gone, a mkdir would land on the file system below
            if error.errno != errno.ENOENT or not cgroupfs.is_below_cgroup(above):
                raise
        self.made.insert(self.made.index(path), above)
        if not self._make(above):
            self.made.remove(above)
        return cgroupfs.make(path)

    def abandon(self) -> None:
        """After a `create` that failed: take back the empty directories, touch no process."""
        for path in reversed(self.made):
            cgroupfs.remove(path)

    def refuse_busy(self) -> None:
        """Errors  EngineError if others are in the cgroup, or it is frozen."""
        old = [path for path in self.leaves if path not in self.made]
        pids = {
            pid for leaf in old for path in cgroupfs.subtree(leaf) for pid in cgroupfs.members(path)
        }
        if pids:
            raise EngineError(f"container's cgroup is not empty: {len(pids)} process(es) found")
        freezer = self.paths.get("freezer", self.paths.get("", ""))
        while freezer in self.made:
            freezer = freezer.rpartition("/")[0]
        # FREEZING or FROZEN, itself or a cgroup above: whoever is attached would stop for ever
        for file, sign in _FROZEN_SIGNS:
            # the top of a hierarchy has neither file, and a question is cheaper than an error
            if cgroupfs.is_file(f"{freezer}/{file}") and sign in cgroupfs.read_or(
                f"{freezer}/{file}"
            ):
                raise EngineError("container's cgroup unexpectedly frozen")

    def _inherit_cpuset(self) -> None:
        """Copy cpus and memory nodes down: a v1 cpuset starts empty and then takes no process."""
        empty: list[tuple[str, list[str]]] = []
        path = self.paths["cpuset"]
        # the top of the hierarchy always has some
        while not all(values := [cgroupfs.read(f"{path}/{file}") for file in _CPUSET_FILES]):
            empty.append((path, values))
            path = path.rpartition("/")[0]
        for below, own in reversed(empty):
            for file, value, old in zip(_CPUSET_FILES, values, own, strict=True):
                if not old:
                    cgroupfs.write(f"{below}/{file}", value)
            values = [old or value for value, old in zip(values, own, strict=True)]

    def attach(self, pid: int, /) -> None:
        """Move a process into the cgroup, in every hierarchy.

        Errors  KernelError; the process may then be in some of them.
        """
        for path in self.leaves:
            try:
                cgroupfs.write(f"{path}/cgroup.procs", str(pid))
            except KernelError as error:
                number = error.errno or 0
                what, hint = f"process {pid} to {path}", _ATTACH_HINTS.get(number, "")
                raise KernelError("attach", what, number, hint=hint) from None

    def join_fd(self) -> int:
        """Open the directory to be born in (CLONE_INTO_CGROUP).

        -1 unless all is v2: the process must then be moved by `attach`.
        Owns    the caller closes it.
        """
        if self.kind != "v2":
            return -1
        path = self.paths[""]
        try:
            return posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
        except OSError as error:
            raise KernelError("open", path, error.errno or 0) from None

    def leaf(self, sub: str, /) -> "Cgroup":
        """Name an existing cgroup below this one: `PATH` or, on v1, `controller[,controller]:PATH`.

        Errors  EngineError: it leads out of this one, or there is none.
        """
        names, colon, path = sub.rpartition(":")
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if ".." in parts or "\0" in path:
            raise EngineError(f"cannot join sub-cgroup {sub}: it is not below the container's")
        chosen = names.split(",") if colon else list(self.paths)
        unknown = [name for name in chosen if name not in self.paths]
        if unknown or (colon and self.kind == "v2"):
            raise EngineError(f"cannot join sub-cgroup {sub}: unknown controller {names}")
        paths = dict(self.paths)
        for name in chosen:
            paths[name] = "/".join((self.paths[name], *parts))
            if not cgroupfs.is_directory(paths[name]):
                raise EngineError(f"cannot join sub-cgroup {sub}: {paths[name]} does not exist")
        return Cgroup(self.kind, paths, [], self.unified)

    def current(self, pid: int, /) -> "Cgroup":
        """Name the v2 cgroup below this one in which the process is now; else this one.

        For exec, where the container has enabled controllers itself and attaching at the top is
        EBUSY.
        """
        top = self.paths.get("", "")
        for line in cgroupfs.read_or(f"/proc/{pid}/cgroup").split("\n"):
            path = self.unified + line[3:]
            if top and line.startswith("0::") and path.startswith(f"{top}/") and ".." not in path:
                paths = {name: path if old == top else old for name, old in self.paths.items()}
                return Cgroup(self.kind, paths, [], self.unified)
        return self

    # limits

    def check(self, resources: "dict[str, Any]", pointer: str = RESOURCES, /) -> None:
        """Refuse resources that cannot be applied here, changing nothing.

        Errors  SpecError.
        """
        from skerry.native.cgroup import devices, limits

        rules = devices.rules(resources, pointer)
        if self.kind != "v2":
            devices.v1_lines(rules, "")
            if "devices" not in self.paths:
                raise EngineError(
                    "cannot restrict devices: the cgroup controller devices is not mounted"
                )
        limits.check(self, resources, pointer)

    def prepare(self, resources: "dict[str, Any]", pointer: str = RESOURCES, /) -> "Prepared":
        """Work out what `apply` will write, at a time when there is nothing else to do."""
        from skerry.native.cgroup import limits

        lines = []
        if self.kind != "v2" and (self._fresh or "devices" in resources):
            from skerry.native.cgroup import devices

            now = cgroupfs.read(f"{self.paths['devices']}/devices.list")
            lines = devices.v1_lines(devices.rules(resources, pointer), now)
        return limits.gather(self, resources, pointer), lines

    def apply(
        self,
        resources: "dict[str, Any]",
        pointer: str = RESOURCES,
        prepared: "Prepared | None" = None,
        /,
    ) -> None:
        """Write the resources.

        The first time after `create` the v1 device list is part of it, whatever is said; the device
        program of v2 is the plan's part (`device_program`).
        Errors  SpecError for a value the kernel does not want, KernelError; a part is then written.
        """
        writes, lines = prepared or self.prepare(resources, pointer)
        self._perform(writes)
        # last, because `restore` does not bring a list of devices back
        self._apply_devices(lines, pointer)
        self._fresh = False

    def _perform(self, writes: "list[Write]", /) -> None:
        from skerry.native.cgroup import limits

        needed = {
            write.controller
            for write in writes
            if write.controller and self.is_v2(write.controller)
        }
        if needed:
            from skerry.native.cgroup import v2

            v2.enable(self, sorted(needed), needed=True)
        limits.perform(self, writes)

    def _apply_devices(self, lines: "list[tuple[str, str, str]]", pointer: str, /) -> None:
        """Write line by line, as the kernel takes them, to files that are opened once."""
        opened: dict[str, int] = {}
        try:
            for file, line, where in lines:
                try:
                    if file not in opened:
                        path = f"{self.paths['devices']}/{file}"
                        opened[file] = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
                    posix.write(opened[file], line.encode())
                except OSError as error:
                    what = f"'{line}' to {file} for {where or pointer}"
                    raise KernelError("write", what, error.errno or 0) from None
        finally:
            for fd in opened.values():
                posix.close(fd)

    def device_program(
        self, resources: "dict[str, Any]", pointer: str = RESOURCES, /
    ) -> bytes | None:
        """Compile the device rules, for the plan to load and attach at `join_fd`.

        None where v1 has a list, which `apply` writes.
        """
        if self.kind != "v2":
            return None
        from skerry.native.cgroup import devices

        return devices.program(devices.rules(resources, pointer))

    def save_limits(
        self, resources: "dict[str, Any]", pointer: str = RESOURCES, /
    ) -> "list[Write]":
        """Remember what an `apply` of these resources will change."""
        from skerry.native.cgroup import limits

        return limits.save(self, resources, pointer)

    def restore(self, saved: "list[Write]", /) -> None:
        """Bring back what `save_limits` remembered."""
        self._perform(saved)

    # the processes

    def processes(self) -> list[int]:
        """List the processes of the cgroup and all below it, ascending."""
        roll = next((self.paths[name] for name in _ROLL if name in self.paths), self.leaves[0])
        return sorted({pid for path in cgroupfs.subtree(roll) for pid in cgroupfs.members(path)})

    def frozen(self) -> bool:
        """Say whether `freeze` was asked for; a cgroup above that is frozen does not count."""
        if "freezer" in self.paths:
            return cgroupfs.read_or(f"{self.paths['freezer']}/freezer.self_freezing") == "1"
        return "" in self.paths and cgroupfs.read_or(f"{self.paths['']}/cgroup.freeze") == "1"

    def freeze(self) -> None:
        """Stop all processes.

        Errors  EngineError if one has not stopped at the deadline; then all run again.
        """
        from skerry.native.cgroup import freezer

        freezer.freeze(self)

    def thaw(self) -> None:
        """Let all processes go on."""
        from skerry.native.cgroup import freezer

        freezer.thaw(self)

    def kill(self, signal: int, /) -> None:
        """Send a signal to every process; with SIGKILL, frozen ones too, return when none is left.

        Errors  EngineError if some outlive the deadline.
        """
        from skerry.native.cgroup import ending

        ending.kill(self, signal)

    def remove(self) -> None:
        """Take away what `create` made and what is below it; done already is no error.

        Errors  KernelError if a cgroup is still in use after the deadline.
        """
        from skerry.native.cgroup import ending

        ending.remove(self)

    # figures

    def stats(self) -> "dict[str, Any]":
        """Read the figures that `events` prints under `data`."""
        from skerry.native.cgroup import stats

        return stats.read(self)

    def oom_watch(self) -> "OomWatch":
        """Watch for the OOM killer.

        Owns    the caller closes it.
        """
        from skerry.native.cgroup.oom import OomWatch

        return OomWatch(self)

    def oom_kills(self) -> int:
        """Count the processes the OOM killer took from here."""
        from skerry.native.cgroup import oom

        return oom.kills(self)
