"""Rules for `linux`: namespaces, id maps, devices, masks, paths; larger parts have their own files.

Runs in: create, run (hot); pure.   Imports: the other files of spec, some late.
Source:  config-linux.md; user_namespaces(7), time_namespaces(7), mknod(2), sethostname(2).
Never:   opens a namespace or a device.
"""

from skerry.errors import SpecError
from skerry.spec import unsupported
from skerry.spec.fields import (
    ID,
    INT64,
    UINT32,
    absolute_path,
    each,
    integer,
    members,
    one_of,
    path,
    record,
    text,
)
from skerry.spec.mounts import is_root
from skerry.spec.process import check_scheduling
from skerry.spec.resources import check_resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAMESPACES = ("cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts")
_PROPAGATIONS = (
    "", "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable",
)  # fmt: skip
_MAP_LINES_LIMIT = 340  # UID_GID_MAP_MAX_EXTENTS
_MAJOR_LIMIT, _MINOR_LIMIT = (1 << 12) - 1, (1 << 20) - 1  # linux/kdev_t.h
_WITHOUT_NUMBER = "p"
_NANOSECONDS_LIMIT = 999_999_999


def check_linux(linux: "Any", pointer: str = "/linux", *, rootful: bool = True) -> "list[str]":
    """Check the section and how its parts fit together; answer warnings.

    Errors  SpecError.
    """
    members(linux, pointer, _LINUX)
    unsupported.refuse("linux", linux, pointer)
    namespaces = namespace_paths(linux, pointer)
    _check_namespaces(namespaces, pointer, rootful=rootful)
    _check_maps(linux, namespaces, pointer)
    if linux.get("timeOffsets") and namespaces.get("time") != "":
        raise SpecError(f"{pointer}/timeOffsets", "needs a new time namespace")
    _check_cgroups_path(linux.get("cgroupsPath", ""), f"{pointer}/cgroupsPath")
    if "sysctl" in linux:
        from skerry.spec.sysctl import check_sysctl

        check_sysctl(linux["sysctl"], f"{pointer}/sysctl", namespaces)
    if "seccomp" in linux:
        from skerry.spec.seccomp import check_seccomp  # with libseccomp's tables

        check_seccomp(linux["seccomp"], f"{pointer}/seccomp")
    if "resources" in linux:
        return check_resources(linux["resources"], f"{pointer}/resources")
    return []


def namespace_paths(linux: "dict[str, Any]", pointer: str = "/linux") -> "dict[str, str]":
    """Type -> path of the namespaces a spec asks for; "" is a new one."""
    found: dict[str, str] = {}
    for n, item in enumerate(linux.get("namespaces", ())):
        kind = item["type"]
        if kind in found:
            raise SpecError(f"{pointer}/namespaces/{n}/type", f"{kind} is given twice")
        found[kind] = item.get("path", "")
    return found


def _check_namespaces(namespaces: "dict[str, str]", pointer: str, *, rootful: bool) -> None:
    if "mount" not in namespaces:
        # Without one the host would see the container's mounts, and its masks would be the host's.
        raise SpecError(f"{pointer}/namespaces", "a mount namespace is needed")
    if not rootful and "user" not in namespaces:
        raise SpecError(f"{pointer}/namespaces", "a user namespace is needed without root")


def _check_namespace_path(value: "Any", pointer: str) -> None:
    text(value, pointer)
    if value:
        absolute_path(value, pointer)


def _check_maps(linux: "dict[str, Any]", namespaces: "dict[str, str]", pointer: str) -> None:
    for word in ("uidMappings", "gidMappings"):
        here = f"{pointer}/{word}"
        lines = linux.get(word, ())
        if lines and "user" not in namespaces:
            raise SpecError(here, "needs a user namespace")
        if not lines and namespaces.get("user") == "":
            raise SpecError(here, "a new user namespace needs it")
        if len(lines) > _MAP_LINES_LIMIT:
            raise SpecError(here, f"{len(lines)} lines, the kernel takes {_MAP_LINES_LIMIT}")
        for side in ("containerID", "hostID"):
            _check_overlap(lines, side, here)
        if lines and not is_mapped(lines, 0):
            raise SpecError(here, "container id 0 is not mapped")


def _check_overlap(lines: "list[dict[str, int]]", side: str, pointer: str) -> None:
    order = sorted(range(len(lines)), key=lambda n: lines[n][side])
    for before, n in zip(order, order[1:], strict=False):
        if lines[before][side] + lines[before]["size"] > lines[n][side]:
            raise SpecError(f"{pointer}/{n}/{side}", f"overlaps with line {before}")


def is_mapped(lines: "list[dict[str, int]]", number: int) -> bool:
    """Whether a container's uid or gid has one on the host."""
    return any(0 <= number - line["containerID"] < line["size"] for line in lines)


def _check_map_end(value: "Any", pointer: str) -> None:
    for side in ("containerID", "hostID"):
        if value[side] + value["size"] > 0xFFFFFFFF:
            raise SpecError(f"{pointer}/size", f"{side} + size is beyond 4294967295")


def _check_device_number(value: "Any", pointer: str) -> None:
    if value["type"] != _WITHOUT_NUMBER:
        for word in ("major", "minor"):
            if word not in value:
                raise SpecError(f"{pointer}/{word}", "is missing")


def _check_cgroups_path(value: "Any", pointer: str) -> None:
    text(value, pointer)
    if not value:
        return
    path(value, pointer)
    if value.count(":") == 2 and "/" not in value:
        raise SpecError(pointer, unsupported.SYSTEMD_CGROUP)
    if ".." in value.split("/"):
        raise SpecError(pointer, "must not hold ..")


def _path_below_root(value: "Any", pointer: str) -> None:
    absolute_path(value, pointer)
    if is_root(value):
        raise SpecError(pointer, "must not be the root of the container")


_NAMESPACE = {"type": one_of(*NAMESPACES), "path": _check_namespace_path}
_MAPS = each(
    record(
        {"containerID": UINT32, "hostID": UINT32, "size": integer(1, 0xFFFFFFFF)},
        required="containerID hostID size",
        then=_check_map_end,
    )
)
_DEVICE = {
    "type": one_of("c", "b", "u", "p"),
    "path": _path_below_root,
    "major": integer(0, _MAJOR_LIMIT),
    "minor": integer(0, _MINOR_LIMIT),
    # The schema says 0777; podman sends the bits of the type along (8630 for 0666 of a character
    # device) and runc takes them, so the plan masks what mknod takes.
    "fileMode": integer(0, 0o177777),
    "uid": ID,
    "gid": ID,
}
_OFFSET = record({"secs": INT64, "nanosecs": integer(0, _NANOSECONDS_LIMIT)})
_LINUX = {
    "namespaces": each(record(_NAMESPACE, required="type")),
    "uidMappings": _MAPS,
    "gidMappings": _MAPS,
    "devices": each(record(_DEVICE, required="type path", then=_check_device_number)),
    "maskedPaths": each(_path_below_root),
    "readonlyPaths": each(_path_below_root),
    "rootfsPropagation": one_of(*_PROPAGATIONS),
    "timeOffsets": record({"monotonic": _OFFSET, "boottime": _OFFSET}),
    "personality": check_scheduling,
    "memoryPolicy": check_scheduling,
}
