"""Rules for `linux.sysctl`: only what belongs to a namespace that is the container's own.

Runs in: create, run (hot where a spec has sysctls).   Imports: posix.
Source:  sysctl(8), sysctl.d(5); which parts of /proc/sys belong to a namespace: ipc/ipc_sysctl.c,
         net/sysctl_net.c, kernel/utsname_sysctl.c, kernel/ucount.c of Linux 6.18.
Never:   lets a setting of the host through (`kernel.core_pattern` names a program the host runs).
"""

import posix

from skerry.errors import SpecError
from skerry.jsonio import escape
from skerry.spec.fields import mapping, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# where below /proc/sys -> type of namespace it belongs to
_SETTINGS = {
    "kernel/msgmax": "ipc",
    "kernel/msgmnb": "ipc",
    "kernel/msgmni": "ipc",
    "kernel/sem": "ipc",
    "kernel/shmall": "ipc",
    "kernel/shmmax": "ipc",
    "kernel/shmmni": "ipc",
    "kernel/shm_rmid_forced": "ipc",
    "kernel/domainname": "uts",
}
_TREES = {"fs/mqueue/": "ipc", "net/": "network", "user/": "user"}
# type of namespace -> its file below /proc/<pid>/ns
_FILES = {"ipc": "ipc", "network": "net", "user": "user", "uts": "uts"}


def sysctl_path(key: str) -> str:
    """Where below /proc/sys: the first separator of the key tells which of `.` and `/` it is.

    Shape   `net.ipv4.conf.eth0/1.forwarding` and `net/ipv4/conf/eth0.1/forwarding` are the same.
    """
    dot, slash = key.find("."), key.find("/")
    if slash >= 0 and (dot < 0 or slash < dot):
        return key
    return key.translate({ord("."): "/", ord("/"): "."})


def check_sysctl(value: "Any", pointer: str, namespaces: "dict[str, str]") -> None:
    """Check every key; `namespaces` is type -> path, "" for a new one.

    Errors  SpecError at the key.
    """
    mapping(text)(value, pointer)
    for key in value:
        here = f"{pointer}/{escape(key)}"
        path = sysctl_path(key)
        if any(part in ("", ".", "..") for part in path.split("/")):
            raise SpecError(here, "is not the name of a setting")
        if path == "kernel/hostname":
            raise SpecError(here, "is what /hostname is for")
        owner = _owner(path)
        if not owner:
            raise SpecError(here, "is not in a separate kernel namespace")
        if owner not in namespaces:
            raise SpecError(here, f"is not allowed in the host's {owner} namespace")
        if _is_ours(owner, namespaces[owner]):
            raise SpecError(here, f"is not allowed in the host's {owner} namespace")


def _owner(path: str) -> str:
    for tree, kind in _TREES.items():
        if path.startswith(tree):
            return kind
    return _SETTINGS.get(path, "")


def _is_ours(kind: str, path: str) -> bool:
    """Whether a path names our own namespace; a missing one is told when it is joined."""
    if not path:
        return False
    try:
        here, there = posix.stat(f"/proc/self/ns/{_FILES[kind]}"), posix.stat(path)
    except OSError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
