"""Where cgroups live on this host, and where a container's cgroup is: layout, path rules, records.

Runs in: create (hot); the record alone in start exec state kill delete.
Imports: posix errors linux.mountinfo linux.cgroupfs; .group.
Source:  cgroups(7); cgroup_namespaces(7); config-linux.md "Cgroups Path"; path rules of runc.
Never:   guesses a mount point; makes or changes a cgroup.

    v1       controllers are mounted on their own, each with its own tree
    v2       one tree for all
    hybrid   v1 mounts for some controllers, one v2 tree for the rest (the key "" in the tables)
"""

import posix

from skerry.errors import EngineError, Error, SpecError
from skerry.linux import cgroupfs
from skerry.native.cgroup.group import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.linux.mountinfo import Mount

POINTER = "/linux/cgroupsPath"
PATH_LIMIT_BYTES = 3072
NAME_LIMIT_BYTES = 255


class Layout:
    """What is mounted where.

    Shape   controllers: name -> mount point; unified: the v2 mount point or ""; own: mount point ->
            our cgroup there, "" at the top.
    """

    __slots__ = ("controllers", "kind", "own", "unified")

    def __init__(
        self, kind: str, controllers: dict[str, str], unified: str, own: dict[str, str]
    ) -> None:
        self.kind, self.controllers, self.unified, self.own = kind, controllers, unified, own


def read_layout(mounts: str = "/proc/self/mountinfo", own: str = "/proc/self/cgroup", /) -> Layout:
    """Find the hierarchies of this host.

    Errors  EngineError if no cgroup file system is mounted.
    """
    from skerry.linux import mountinfo

    paths = _own_paths(own)
    controllers: dict[str, str] = {}
    unified = ""
    places: dict[str, str] = {}
    for mount in _usable(mountinfo.read(mounts, kinds=("cgroup", "cgroup2"))):
        known = ("",) if mount.kind == "cgroup2" else mount.super_options
        # a hierarchy can be mounted twice; the first mount is as good as any
        names = [name for name in known if name in paths and name not in controllers]
        if mount.kind == "cgroup2":
            names = [] if unified else names
            unified = unified or mount.point
        for name in names:
            places[mount.point] = _seen_from(mount.root, paths[name])
            if name:
                controllers[name] = mount.point
    if not controllers and not unified:
        raise EngineError("cannot find a cgroup hierarchy: neither cgroup nor cgroup2 is mounted")
    kind = "v1" if not unified else "hybrid" if controllers else "v2"
    if unified:
        for name in cgroupfs.read_or(f"{unified}/cgroup.controllers").split():
            controllers.setdefault(name, unified)
    return Layout(kind, controllers, unified, places)


def _own_paths(path: str, /) -> dict[str, str]:
    """Shape   controller -> our cgroup as the kernel names it; `name=systemd`; "" for v2."""
    paths = {}
    for line in cgroupfs.read(path).split("\n"):
        _, _, rest = line.partition(":")
        names, _, place = rest.partition(":")
        for name in names.split(","):
            paths[name] = place
    return paths


def _usable(mounts: "list[Mount]", /) -> "list[Mount]":
    """Leave out what a later mount hides, such as a private tmpfs; the usual place goes first."""
    seen = []
    for mount in mounts:
        try:
            device = posix.stat(mount.point).st_dev
        except OSError:
            continue
        if mount.device == (posix.major(device), posix.minor(device)):
            seen.append(mount)
    seen.sort(key=lambda mount: not mount.point.startswith("/sys/fs/cgroup"))
    return seen


def _seen_from(root: str, path: str, /) -> str:
    """Say where `path` of a hierarchy is below a mount that shows the hierarchy from `root` on.

    In a container without a cgroup namespace the two are the host's names; what lies outside the
    mount, or of the namespace (/..), counts as its top.
    """
    if root != "/":
        inside = path == root or path.startswith(f"{root}/")
        path = path[len(root) :] if inside else ""
    return "" if path == "/" or path.startswith("/..") else path


def open_cgroup(layout: Layout, cgroups_path: str, id: str, /) -> Cgroup:
    """Name the container's cgroup in every hierarchy; nothing is made yet.

    Absolute: below the top of the hierarchy. Relative or absent (then the id): below our own cgroup
    on v1, below its parent on v2, whose rule against processes in inner cgroups would make a child
    of ours useless.
    Errors  SpecError at /linux/cgroupsPath.
    """
    inner = clean_path(cgroups_path) if cgroups_path else f"/{id}"
    from_top = cgroups_path.startswith("/")
    places = {}
    for mount, own in layout.own.items():
        if mount == layout.unified:
            own = own.rpartition("/")[0]
        places[mount] = f"{mount}{'' if from_top else own}{inner}"
    paths = {name: places[mount] for name, mount in layout.controllers.items()}
    if layout.unified:
        paths[""] = places[layout.unified]
    made = [path for mount, leaf in places.items() for path in _missing(mount, leaf)]
    return Cgroup(layout.kind, paths, made, layout.unified)


def clean_path(text: str, /) -> str:
    """Bring a cgroupsPath into the form /a/b. `..` never leads above the top, as in runc.

    Errors  SpecError: NUL, newline, too long, nothing left of it, or systemd's form.
    """
    if "\0" in text or "\n" in text:
        raise SpecError(POINTER, "must hold neither NUL nor newline")
    if len(text.encode("utf-8", "surrogateescape")) > PATH_LIMIT_BYTES:
        raise SpecError(POINTER, f"is longer than {PATH_LIMIT_BYTES} bytes")
    if not text.startswith("/") and text.count(":") == 2:
        raise SpecError(
            POINTER,
            f"{text!r} is in systemd's form (slice:prefix:name), which needs systemd's driver",
            hint="skerry has the cgroupfs driver: give a path, or set the engine to cgroupfs",
        )
    parts: list[str] = []
    for part in text.split("/"):
        if len(part.encode("utf-8", "surrogateescape")) > NAME_LIMIT_BYTES:
            raise SpecError(POINTER, f"a part is longer than {NAME_LIMIT_BYTES} bytes")
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    if not parts:
        raise SpecError(POINTER, f"{text!r} names no cgroup of its own")
    return "/" + "/".join(parts)


def _missing(mount: str, leaf: str, /) -> list[str]:
    """List what create will have to make for the leaf, parents first."""
    missing: list[str] = []
    path = leaf
    while len(path) > len(mount) and not cgroupfs.is_directory(path):
        missing.insert(0, path)
        path = path.rpartition("/")[0]
    return missing


def from_record(record: "dict[str, Any]", /) -> Cgroup:
    """Know a cgroup again from `Cgroup.record`, in another process.

    Errors  Error if the record was damaged; no path of it is then used.
    """
    kind, paths = record.get("kind"), record.get("paths")
    made, top = record.get("made"), record.get("top")
    if kind not in ("v1", "v2", "hybrid") or type(paths) is not dict or type(made) is not list:
        raise Error("cannot read the record of a cgroup: it is damaged")
    for path in (*paths.values(), *made, top or "/"):
        if type(path) is not str or path[:1] != "/" or ".." in path.split("/"):
            raise Error("cannot read the record of a cgroup: a path in it is not absolute")
    return Cgroup(kind, paths, made, top or "")
