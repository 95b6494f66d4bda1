"""Whether making a container, or starting something in it, may have to wait for somebody.

Runs in: the task shim, at create.   Imports: the names below.
Source:  docs/decisions/0009-task-shim.md; proc_pid_mountinfo(5).
Never:   asks a file system: one that hangs would hang us.

What waits for nobody but the kernel and local disks is done in the shim's own process. A hook is a program that may
take its time; a file system over a network or in user space answers when its server does.
"""

from skerry.errors import KernelError
from skerry.linux.cgroupfs import read_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart")
_LOCAL = frozenset(
    ("", "bind", "none", "overlay", "tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "ext4", "xfs",
     "btrfs", "zfs", "erofs", "squashfs", "f2fs", "ramfs", "securityfs", "bpf", "devtmpfs")
)  # fmt: skip
_FUSE = "/dev/fuse"
_MOUNTS = "/proc/self/mountinfo"


def may_wait(spec: "dict[str, Any]", rootfs: "list[dict[str, Any]]") -> str:
    """What it may have to wait for; "" for nothing."""
    hooks = spec.get("hooks") or {}
    for name in _HOOKS:
        if hooks.get(name):
            return f"{name} hooks"
    mounts = [*rootfs, *(spec.get("mounts") or ())]
    for mount in mounts:
        if (mount.get("type") or "") not in _LOCAL:
            return f"a mount of type {mount['type']}"
    linux = spec.get("linux") or {}
    for device in linux.get("devices") or ():
        if device.get("path") == _FUSE:
            return "file systems of its own"
    if _all_devices(linux):
        # It can mount what it serves itself, and run a program from there.
        return "all devices"
    return _remote(_paths(mounts, (spec.get("root") or {}).get("path") or ""))


def _paths(mounts: "list[dict[str, Any]]", root: str) -> "list[str]":
    """Whatever of the host the mounts are made of, layers of an overlay too."""
    paths = [root, *((mount.get("source") or "") for mount in mounts)]
    for mount in mounts:
        for option in mount.get("options") or ():
            if option.startswith("lowerdir="):
                paths += option[len("lowerdir=") :].split(":")
    return [path for path in paths if path.startswith("/")]


def _all_devices(linux: "dict[str, Any]") -> bool:
    """The last word of the rules is: everything."""
    verdict = True
    for rule in (linux.get("resources") or {}).get("devices") or ():
        every = rule.get("type") in (None, "", "a") and rule.get("major") is None
        if every:
            verdict = bool(rule.get("allow"))
    return verdict


def _remote(sources: "list[str]") -> str:
    """The type of a file system, not known as local, that one of the paths leads through."""
    for line in _lines():
        before, _, after = line.partition(" - ")
        kind = after.partition(" ")[0]
        if kind in _LOCAL or not kind:
            continue
        place = before.split(" ")[4]
        for source in sources:
            if source == place or source.startswith(f"{place}/"):
                return f"a file system of type {kind}"
    return ""


def _lines() -> "list[str]":
    try:
        return read_bytes(_MOUNTS).decode("utf-8", "replace").split("\n")
    except KernelError:
        return []
