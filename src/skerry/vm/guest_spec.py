"""The host's spec as the guest is to have it, and what the VM must be given for it.

Runs in: create (to refuse early), vmshim; pure.   Imports: errors, spec.annotations.
Source:  docs/vm.md "What a VM does not have", "The link"; docs/lifecycle.md 36-40, 129.
Never:   lets a path of the host through: every source becomes a storage, or is refused by its pointer.

What a container of the guest is made of lies below /run/skerry/storage/<id>: `rootfs`, and `m<n>` for mount n.
"""

from skerry.errors import SpecError
from skerry.spec import annotations as read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

STORAGE = "/run/skerry/storage"
FILE_LIMIT_BYTES = 1024 * 1024
ROOTFS = "rootfs"
# What the mount of a source is, by its kind on the host
FILE, DIRECTORY, BLOCK, OTHER = "file", "directory", "block", "other"

# Namespaces that a container of a VM may join: those of another container of its VM, by its host pid
_JOINABLE = {"ipc": "ipc", "uts": "uts", "pid": "pid"}
# The VM's own network is the container's; naming it lets what needs a network namespace (net.* sysctls) pass.
_VM_NETWORK = "/proc/1/ns/net"
_GUEST_HOOKS = ("startContainer",)

# property of /linux -> why a VM has none; an empty one asks for nothing
REFUSED = {
    "intelRdt": "a container in a VM has no resctrl group of the host",
    "netDevices": "a network device of the host cannot be moved into a VM",
}


class Source:
    """A bind mount's source as the host has it: kind, and for a file its size and mode."""

    __slots__ = ("kind", "mode", "path", "size")

    def __init__(self, path: str, kind: str, size: int = 0, mode: int = 0o644) -> None:
        self.path, self.kind, self.size, self.mode = path, kind, size, mode


class Translation:
    """spec       the guest's
    storages      in order; each with `kind`, `at` and what the host has to do for it (vm/storage.py)
    needs_share   whether the VM must be able to take a share
    """

    __slots__ = ("needs_share", "spec", "storages")

    def __init__(self) -> None:
        self.spec: dict[str, Any] = {}
        self.storages: list[dict[str, Any]] = []
        self.needs_share = False


def translate(
    spec: "dict[str, Any]",
    record: "dict[str, Any]",
    sources: "dict[int, Source]",
    *,
    layers: "list[str]",
    guest_pid: "Callable[[int], int | None]",
) -> Translation:
    """Build it.

    Shape   `sources` by the number of the mount; `guest_pid` of the host pid of a container's shim in this VM.
    Errors  SpecError at what a VM cannot do.
    """
    done = Translation()
    id = record["ID"]
    guest = {key: value for key, value in spec.items() if key not in ("vm", "hooks", "annotations")}
    refuse(spec)
    guest["root"] = _root(spec, record, layers, done)
    guest["mounts"] = [
        _mount(id, number, mount, sources.get(number), done)
        for number, mount in enumerate(spec.get("mounts") or ())
    ]
    hooks = {n: h for n, h in (spec.get("hooks") or {}).items() if n in _GUEST_HOOKS and h}
    if hooks:
        guest["hooks"] = hooks
    if "process" not in spec:
        # A guest's skerry lets only a sandbox be without one.
        kind, sandbox, _ = read.FAMILIES[0]
        guest["annotations"] = {kind: "sandbox", sandbox: id}
    if "linux" in spec:
        guest["linux"] = _linux(spec["linux"], guest_pid)
    done.spec = guest
    return done


def refuse(spec: "dict[str, Any]") -> None:
    """What can be told from the spec alone.

    Errors  SpecError.
    """
    linux = spec.get("linux") or {}
    for name, why in REFUSED.items():
        if linux.get(name):
            raise SpecError(f"/linux/{name}", why)
    if (linux.get("seccomp") or {}).get("listenerPath"):
        raise SpecError("/linux/seccomp/listenerPath", "a listener of the host cannot reach into a VM")
    for number, namespace in enumerate(linux.get("namespaces") or ()):
        kind, path = namespace["type"], namespace.get("path") or ""
        if path and kind != "network" and (kind not in _JOINABLE or not _pid_of(path, kind)):
            raise SpecError(
                f"/linux/namespaces/{number}/path",
                f"a container in a VM cannot join a {kind} namespace of the host",
            )


def _root(
    spec: "dict[str, Any]", record: "dict[str, Any]", layers: "list[str]", done: Translation
) -> "dict[str, Any]":
    """Read-only images below, a scratch above: neither root.path nor a layer is ever written."""
    if layers:
        *lower, scratch = layers
    else:
        lower, scratch = [record["Rootfs"]], ""
    names = [f"layer{n}" for n in range(len(lower))]
    for name, path in zip(names, lower, strict=True):
        done.storages.append({"kind": "image", "source": path, "at": name})
    done.storages.append({"kind": "scratch", "source": scratch, "at": "scratch"})
    done.storages.append({"kind": "overlay", "lower": names, "upper": "scratch", "at": ROOTFS})
    root: dict[str, Any] = {"path": f"{STORAGE}/{record['ID']}/{ROOTFS}"}
    if (spec.get("root") or {}).get("readonly"):
        root["readonly"] = True
    return root


def _mount(
    id: str, number: int, mount: "dict[str, Any]", source: "Source | None", done: Translation
) -> "dict[str, Any]":
    if source is None:
        return mount
    name = f"m{number}"
    pointer = f"/mounts/{number}/source"
    options = mount.get("options") or ()
    read_only = "ro" in options and "rw" not in options[options.index("ro") :] if options else False
    if source.kind == FILE and read_only and source.size <= FILE_LIMIT_BYTES:
        done.storages.append({"kind": "file", "source": source.path, "mode": source.mode, "at": name})
    elif source.kind in (FILE, DIRECTORY):
        done.needs_share = True
        done.storages.append(
            {"kind": "share", "source": source.path, "type": source.kind, "read_only": read_only, "at": name}
        )
    elif source.kind == BLOCK and mount.get("type") == "bind":
        done.storages.append(
            {"kind": "block", "source": source.path, "read_only": read_only, "at": name}
        )
    else:
        raise SpecError(pointer, f"{source.path}: only files, directories and block devices reach into a VM")
    inside = f"{name}/file" if done.storages[-1].get("type") == FILE else name
    return {**mount, "source": f"{STORAGE}/{id}/{inside}"}


def _linux(
    linux: "dict[str, Any]", guest_pid: "Callable[[int], int | None]"
) -> "dict[str, Any]":
    guest = {key: value for key, value in linux.items() if key not in REFUSED}
    namespaces = []
    for number, namespace in enumerate(linux.get("namespaces") or ()):
        kind, path = namespace["type"], namespace.get("path") or ""
        if kind == "network":
            namespaces.append({"type": "network", "path": _VM_NETWORK})
        elif not path:
            namespaces.append(namespace)
        else:
            inside = guest_pid(_pid_of(path, kind))
            if inside is None:
                raise SpecError(
                    f"/linux/namespaces/{number}/path",
                    f"{path} is not of a container of this VM",
                )
            namespaces.append({"type": kind, "path": f"/proc/{inside}/ns/{_JOINABLE[kind]}"})
    guest["namespaces"] = namespaces
    return guest


def _pid_of(path: str, kind: str) -> int:
    """The pid in /proc/<pid>/ns/<kind>, 0 for another path."""
    parts = path.split("/")
    if len(parts) == 5 and parts[:2] == ["", "proc"] and parts[3:] == ["ns", _JOINABLE[kind]]:
        return int(parts[2]) if parts[2].isascii() and parts[2].isdigit() else 0
    return 0
