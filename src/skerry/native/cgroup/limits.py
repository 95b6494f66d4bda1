"""Resources as writes: gather them from the spec, check them, perform them, and take them back.

Runs in: create (hot), update.
Imports: errno errors linux.cgroupfs; .v1 .v2 where their version is used.
Source:  config-linux.md "Control groups"; the tables of v1 and v2.
Never:   skips a wish: what cannot be written is an error with its pointer.

Many values depend on each other: memory on memory+swap, quota on period and burst, shares on idle,
and which must be written first depends on whether they grow. So no order is computed. What the
kernel refuses with EINVAL is tried again after the others, as long as that gets anything further.
"""

import errno

from skerry.errors import KernelError, SpecError
from skerry.linux import cgroupfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skerry.native.cgroup.group import Cgroup

# section of the spec, controller of v1 and of v2 ("": it has none), function of v1.py and v2.py
SECTIONS = (
    ("cpu", "cpuset", "cpuset", "cpuset"),
    ("cpu", "cpu", "cpu", "cpu"),
    ("memory", "memory", "memory", "memory"),
    ("pids", "pids", "pids", "pids"),
    ("blockIO", "blkio", "io", "block_io"),
    ("hugepageLimits", "hugetlb", "hugetlb", "hugetlb"),
    ("network", "net_cls", "", "network_class"),
    ("network", "net_prio", "", "network_priorities"),
    ("rdma", "rdma", "rdma", "rdma"),
)
# the kernel's words for a value it does not want, as opposed to a host that does not work
_VALUE_ERRNOS = (
    errno.EINVAL,
    errno.ERANGE,
    errno.E2BIG,
    errno.ENOSPC,
    errno.EACCES,
    errno.ENODEV,
    errno.ENXIO,
)


class Write:
    """One value for one file.

    In a file of many lines `key` (8:0) names ours, and `blank` is the value that takes it out.
    """

    __slots__ = ("blank", "controller", "file", "key", "may_miss", "pointer", "value")

    def __init__(
        self,
        controller: str,
        file: str,
        value: object,
        pointer: str,
        *,
        key: str = "",
        blank: str = "",
        may_miss: bool = False,
    ) -> None:
        self.controller, self.file, self.value, self.pointer = controller, file, str(value), pointer
        self.key, self.blank, self.may_miss = key, blank, may_miss

    def text(self) -> str:
        return f"{self.key} {self.value}" if self.key else self.value


def gather(group: "Cgroup", resources: "dict[str, Any]", pointer: str, /) -> list[Write]:
    """List all writes for the resources, devices excepted.

    Errors  SpecError for what this layout has no controller or no file for.
    """
    found: list[Write] = []
    for section, one, two, name in SECTIONS:
        wanted = resources.get(section)
        if not wanted:
            continue
        if two and (group.kind == "v2" or group.is_v2(two)):
            from skerry.native.cgroup import v2 as version
        else:
            from skerry.native.cgroup import v1 as version  # type: ignore[no-redef]

            two = one
        writes = getattr(version, name)(wanted, f"{pointer}/{section}", _reader(group, two))
        if writes and two not in group.paths:
            if all(write.may_miss for write in writes):
                continue
            raise SpecError(
                writes[0].pointer,
                f"needs the cgroup controller {two}, which this host has mounted nowhere",
            )
        found += writes
    if resources.get("unified"):
        from skerry.native.cgroup.v2 import unified

        found += unified(group, resources["unified"], f"{pointer}/unified")
    return found


def _reader(group: "Cgroup", controller: str, /) -> "Callable[[str], str]":
    """Give the writers a look at the present values: "" where there is none yet."""
    directory = group.paths.get(controller, "")
    return lambda file: cgroupfs.read_or(f"{directory}/{file}") if directory else ""


def check(group: "Cgroup", resources: "dict[str, Any]", pointer: str, /) -> None:
    """Refuse what cannot be applied, before anything is changed.

    Whether a file exists can be seen only where the cgroup does; for a new one `perform` says it.
    """
    for write in gather(group, resources, pointer):
        directory = group.paths[write.controller]
        if write.may_miss or not cgroupfs.is_directory(directory):
            continue
        if not group.is_v2(write.controller) or group.is_enabled(write.controller):
            if not cgroupfs.is_file(f"{directory}/{write.file}"):
                raise _missing(write)


def _missing(write: Write, /) -> SpecError:
    hint = "boot with swapaccount=1" if "memsw" in write.file else ""
    return SpecError(write.pointer, f"this kernel has no {write.file}", hint=hint)


def perform(group: "Cgroup", writes: list[Write], /) -> None:
    """Write all, again and again while EINVAL gets less.

    Errors  SpecError with the pointer where the kernel does not want the value, KernelError else.
    """
    waiting = writes
    while waiting:
        refused: list[Write] = []
        first: KernelError | None = None
        for write in waiting:
            try:
                cgroupfs.write(f"{group.paths[write.controller]}/{write.file}", write.text())
            except KernelError as error:
                if error.errno == errno.ENOENT and write.may_miss:
                    continue
                if error.errno != errno.EINVAL:
                    raise _explain(group, write, error) from None
                refused.append(write)
                first = first or error
        if first and len(refused) == len(waiting):
            raise _explain(group, refused[0], first)
        waiting = refused


def _explain(group: "Cgroup", write: Write, error: KernelError, /) -> "SpecError | KernelError":
    """Turn the kernel's refusal of a value into a sentence about the spec."""
    directory = group.paths[write.controller]
    if error.errno == errno.ENOENT:
        return _missing(write)
    if error.errno == errno.EBUSY and write.controller == "memory":
        usage = cgroupfs.read_or(f"{directory}/{write.file.replace('limit', 'usage')}", "?")
        peak = cgroupfs.read_or(f"{directory}/{write.file.replace('limit', 'max_usage')}", "?")
        return SpecError(
            write.pointer,
            f"unable to set memory limit to {write.value} "
            f"(current usage: {usage}, peak usage: {peak})",
        )
    if error.errno not in _VALUE_ERRNOS:
        return KernelError(
            "write", f"{write.text()!r} to {write.file} for {write.pointer}", error.errno or 0
        )
    name = errno.errorcode[error.errno]
    hint = ""
    if write.file == "memory.limit_in_bytes" and error.errno == errno.EINVAL:
        swap = cgroupfs.read_or(f"{directory}/memory.memsw.limit_in_bytes")
        hint = (
            f"memory and swap together are limited to {swap} bytes: raise swap as well"
            if swap
            else ""
        )
    return SpecError(
        write.pointer, f"the kernel refuses {write.text()!r} for {write.file}: {name}", hint=hint
    )


def save(group: "Cgroup", resources: "dict[str, Any]", pointer: str, /) -> list[Write]:
    """Remember what these resources would change, as the writes that bring it back."""
    saved = []
    for write in gather(group, resources, pointer):
        now = cgroupfs.read_or(f"{group.paths[write.controller]}/{write.file}")
        if write.key:
            value = write.blank
            for line in now.split("\n"):
                key, _, rest = line.partition(" ")
                if key == write.key:
                    value = rest
        else:
            value = now or "\n"
            # `weight` files say "default 100", oom_control three lines with the switch first
            if "\n" in now or now.startswith(("default ", "oom_kill_disable ")):
                value = now.split("\n")[0].rpartition(" ")[2]
        saved.append(
            Write(write.controller, write.file, value, write.pointer, key=write.key, may_miss=True)
        )
    return saved
