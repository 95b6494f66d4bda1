"""Mounts of the spec: sources taken on the host, attached inside, in the spec's order.

Runs in: create (hot); pure.   Imports: linux.abi, spec.mount_options, plan.
Source:  runtime-spec config.md "Mounts"; open_tree(2), mount_setattr(2), move_mount(2).
Never:   resolves a destination: skerry-init walks it below the root's fd and attaches to the fd it found.

A tree gets its attributes before it is attached, so there is no moment at which a read-only volume can be written.
"""

from errno import ENOTSUP

from skerry.errors import SpecError
from skerry.linux import abi
from skerry.plan import ops
from skerry.plan.build import Plan, Reg
from skerry.plan.filesystems import create_mount, make, set_string
from skerry.plan.request import Request
from skerry.plan.rootfs import attach, is_shared, set_mount
from skerry.spec.mount_options import MountOptions, parse_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What may be bound below /proc: files that describe the container's limits (lxcfs) and nothing a process of the
# container is configured through (CVE-2019-16884).
_PROC_BINDS = {
    "/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime",
    "/proc/loadavg", "/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
}  # fmt: skip
_STATX_MODE_MASK, _STATX_MODE_OFFSET, _STATX_BYTES = 2, 28, 256
_DIRECTORY_MODE = 0o755
_HELD = ("/proc", "/sys")


class Mount:
    """One entry of the spec on its way: where it goes, what it asks, the tree taken for it."""

    __slots__ = (
        "index",
        "kind",
        "destination",
        "source",
        "options",
        "tree",
        "is_directory",
        "words",
    )

    def __init__(self, r: Request, index: int, entry: "dict[str, Any]") -> None:
        self.index = index
        self.kind = entry.get("type") or "none"
        self.destination = clean(entry["destination"])
        self.source = entry.get("source") or self.kind
        self.words = entry.get("options") or []
        self.options = parse_options(self.words, f"/mounts/{index}/options", kind=self.kind)
        self.tree: Reg | None = None
        self.is_directory = True
        if self.options.bind:
            self.source, self.is_directory = r.sources[index]

    @property
    def readonly_late(self) -> bool:
        """A read-only tmpfs, or anything on /dev, must first take mount points, devices and links."""
        attributes = self.options.set_attrs | self.options.recursive_set
        return (
            attributes & abi.MOUNT_ATTR_RDONLY != 0
            and not self.options.bind
            and (self.kind == "tmpfs" or self.destination == "/dev")
        )

    @property
    def is_held(self) -> bool:
        """Whether its tree stays open for `start_of`."""
        return self.destination in _HELD and not (self.readonly_late or self.options.remount)

    def step(
        self, p: Plan, verb: str, key: str = "", hints: "dict[int, str] | None" = None
    ) -> None:
        what = self.source if self.options.bind else self.kind
        pointer = f"/mounts/{self.index}" + (f"/{key}" if key else "")
        p.step(f"{verb} {what} on {self.destination}", pointer, hints)


def clean(path: str) -> str:
    """A destination without empty, `.` and `..` components: it cannot leave the root anyway."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def read(r: Request) -> "list[Mount]":
    mounts = [Mount(r, index, entry) for index, entry in enumerate(r.spec.get("mounts") or ())]
    for mount in mounts:
        _check_proc(mount)
    return mounts


def take_sources(p: Plan, r: Request, mounts: "list[Mount]") -> None:
    """On the host: hold every bind source as a detached tree with its attributes set."""
    for mount in mounts:
        if mount.options.bind:
            mount.step(p, "bind", "source")
            mount.tree = _clone(p, r, mount.source, recursive=mount.options.bind == 2)
            _set_attributes(p, mount.tree, mount.options)


def attach_all(
    p: Plan, r: Request, mounts: "list[Mount]", root: Reg, pid_namespace: "Reg | None"
) -> "list[tuple[Mount, Reg]]":
    """Inside: make the new file systems, attach everything.

    `pid_namespace` is the fd of a joined one: a procfs shows the pid namespace of the process that makes it.
    Result  the tmpfs mounts that become read-only once nothing more is made in them, with their trees.
    """
    late = []
    for mount in mounts:
        if mount.kind in ("cgroup", "cgroup2") and not mount.options.bind:
            _cgroup(p, r, mount, root)
            continue
        if mount.options.remount:
            _remount(p, mount, root)
            continue
        tree = mount.tree
        if tree is None:
            tree = make(p, mount, pid_namespace if mount.kind == "proc" else None)
        target = _target(p, mount, root)
        if mount.kind == "tmpfs" and not mount.options.bind:
            _dress_tmpfs(p, mount, tree, target)
        mount.step(p, "mount")
        if mount.options.bind and mount.destination == "/proc":
            mount.step(p, "bind", "source", {ENOTSUP: "only a procfs may be bound there"})
            p.call("CHECK", tree, 0, 0, abi.PROC_SUPER_MAGIC, 0)
        attach(p, tree, target)
        p.close(target)
        if mount.readonly_late:
            late.append((mount, tree))
        elif mount.is_held:
            mount.tree = tree
        else:
            p.close(tree)
    return late


def start_of(mounts: "list[Mount]", root: Reg, path: str) -> "tuple[Reg, str]":
    """Where to look a path up from, and as what: below /proc and /sys from the mount itself.

    Who shares the root directory may move a mount point, and the mount with it, while we are at work; what is to be
    hidden is in the mount, wherever that is by then (CVE-2023-27561).
    """
    place = clean(path)
    for mount in reversed(mounts):
        if mount.destination in _HELD and place.startswith(f"{mount.destination}/"):
            if mount.is_held and mount.tree is not None:
                return mount.tree, place[len(mount.destination) :]
            break
    return root, path


def let_go(p: Plan, mounts: "list[Mount]") -> None:
    """Close the trees that `start_of` began at."""
    for mount in mounts:
        if mount.is_held and mount.tree is not None:
            p.close(mount.tree)


def finish_readonly(p: Plan, late: "list[tuple[Mount, Reg]]") -> None:
    for mount, tree in late:
        mount.step(p, "make read-only")
        set_mount(p, tree, 0, set=abi.MOUNT_ATTR_RDONLY)
        p.close(tree)


def device_binds_dev(r: Request) -> bool:
    """The spec binds a /dev of its own: then nothing is made in it, as in runc."""
    return any(
        clean(entry["destination"]) == "/dev"
        and (entry.get("type") == "bind" or {"bind", "rbind"} & set(entry.get("options") or ()))
        for entry in r.spec.get("mounts") or ()
    )


def _check_proc(mount: Mount) -> None:
    if mount.destination == "/proc" and not (
        mount.options.bind or mount.options.remount or mount.kind == "proc"
    ):
        raise SpecError(
            f"/mounts/{mount.index}/type", f"{mount.kind} on /proc: only a procfs may be there"
        )
    if not mount.destination.startswith("/proc/"):
        return
    if mount.options.bind and mount.destination in _PROC_BINDS:
        return
    raise SpecError(
        f"/mounts/{mount.index}/destination",
        f"{mount.destination!r} is inside /proc, where nothing but a few files may be mounted",
    )


def _clone(
    p: Plan, r: Request, path: str, *, recursive: bool, set: int = 0, clear: int = 0
) -> Reg:
    """A copy of what is mounted at a path of the host; `set` and `clear` are attributes for all of it."""
    flags = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC
    flags |= abi.AT_RECURSIVE if recursive else 0
    tree = p.result("open_tree", abi.AT_FDCWD, path, flags)
    propagation = 0 if is_shared(r) else abi.MS_SLAVE
    if set or clear or propagation:
        set_mount(p, tree, abi.AT_RECURSIVE, set=set, clear=clear, propagation=propagation)
    return tree


def _set_attributes(p: Plan, tree: Reg, options: MountOptions) -> None:
    if options.set_attrs or options.clear_attrs:
        set_mount(p, tree, 0, set=options.set_attrs, clear=options.clear_attrs)
    if options.recursive_set or options.recursive_clear:
        set_mount(
            p, tree, abi.AT_RECURSIVE, set=options.recursive_set, clear=options.recursive_clear
        )
    _set_propagation(p, tree, options)


def _set_propagation(p: Plan, tree: Reg, options: MountOptions) -> None:
    for value in options.propagation:
        recursive = abi.AT_RECURSIVE if value & abi.MS_REC else 0
        set_mount(p, tree, recursive, propagation=value & ~abi.MS_REC)


def _target(p: Plan, mount: Mount, root: Reg) -> Reg:
    """The place to attach to, made if missing, held by fd."""
    mount.step(p, "find the place to mount", "destination")
    flags = ops.WALK_DIRECTORY if mount.is_directory else ops.WALK_FILE
    if mount.kind in ("proc", "sysfs"):
        # A link here would put the masks and the writes of later steps somewhere else (CVE-2019-19921).
        flags |= ops.WALK_NOFOLLOW
    mode = _DIRECTORY_MODE if mount.is_directory else 0o644
    target = p.result("WALK", root, mount.destination, flags, mode)
    if mount.destination != "/proc" and mount.destination not in _PROC_BINDS:
        _check_outside_proc(p, mount, target)
    return target


def _check_outside_proc(p: Plan, mount: Mount, target: Reg) -> None:
    """The destination's words are outside, but a link of the image may say otherwise (CVE-2019-16884)."""
    outside = p.mark()
    mount.step(p, "mount", "destination", {ENOTSUP: "a link of the image leads into /proc"})
    p.call("CHECK", target, 0, 0, abi.PROC_SUPER_MAGIC, 0, jump=(ENOTSUP,), to=outside)
    p.call("CHECK", target, abi.S_IFSOCK, 0, 0, 0)  # procfs has no sockets: this fails
    p.place(outside)


def _dress_tmpfs(p: Plan, mount: Mount, tree: Reg, target: Reg) -> None:
    """Give the tmpfs the mode of the directory it covers, and its content if asked."""
    if not any(item.startswith("mode=") for item in mount.options.data):
        mount.step(p, "take over the mode for")
        buffer = p.reserve(_STATX_BYTES)
        p.call("statx", target, "", abi.AT_EMPTY_PATH, _STATX_MODE_MASK, buffer)
        mode = p.result("LOAD", buffer.at(_STATX_MODE_OFFSET), 4)
        p.call("fchmodat", tree, ".", mode)
    if mount.options.tmpcopyup:
        mount.step(p, "copy up into tmpfs", "options")
        p.call("COPYTREE", target, tree)


def _remount(p: Plan, mount: Mount, root: Reg) -> None:
    mount.step(p, "remount")
    flags = ops.WALK_EXISTING
    target = p.result("WALK", root, mount.destination, flags, 0)
    _set_attributes(p, target, mount.options)
    p.close(target)


def _cgroup(p: Plan, r: Request, mount: Mount, root: Reg) -> None:
    """The container's part of the cgroup tree: v2 whole; v1 a tmpfs with a directory per hierarchy.

    Type cgroup is what the host has, of whichever version; type cgroup2 is version 2, on hybrid hosts too.
    """
    if r.cgroup_version == 1 and mount.kind == "cgroup":
        _cgroup_v1(p, r, mount, root)
    elif r.cgroup_unified:
        _cgroup_v2(p, r, mount, root)
    else:
        raise SpecError(
            f"/mounts/{mount.index}/type",
            f"cannot mount {mount.kind}: this host has none for the container",
        )


def _cgroup_v2(p: Plan, r: Request, mount: Mount, root: Reg) -> None:
    mount.step(p, "mount")
    if r.namespace("cgroup") is not None:
        context = p.result("fsopen", "cgroup2", abi.FSOPEN_CLOEXEC)
        set_string(p, context, "source", mount.source)
        attributes = mount.options.set_attrs | mount.options.recursive_set
        tree = create_mount(p, context, attributes, mount.options)
    else:
        tree = _clone(p, r, r.cgroup_unified, recursive=False)
        _set_attributes(p, tree, mount.options)
    target = _target(p, mount, root)
    attach(p, tree, target)
    p.close(target)
    p.close(tree)


def _cgroup_v1(p: Plan, r: Request, mount: Mount, root: Reg) -> None:
    mount.step(p, "mount")
    attributes = mount.options.set_attrs | mount.options.recursive_set
    clear = mount.options.clear_attrs | mount.options.recursive_clear
    context = p.result("fsopen", "tmpfs", abi.FSOPEN_CLOEXEC)
    set_string(p, context, "source", "tmpfs")
    set_string(p, context, "mode", "755")
    base = create_mount(p, context, attributes & ~abi.MOUNT_ATTR_RDONLY)
    target = _target(p, mount, root)
    attach(p, base, target)
    p.close(target)
    for name, path, controllers in r.cgroup_mounts:
        mount.step(p, f"mount {name} below")
        if r.namespace("cgroup") is not None and controllers:
            context = p.result("fsopen", "cgroup", abi.FSOPEN_CLOEXEC)
            set_string(p, context, "source", mount.source)
            for controller in controllers.split(","):
                key, equals, value = controller.partition("=")
                if equals:
                    p.call("fsconfig", context, abi.FSCONFIG_SET_FLAG, "none", 0, 0)
                    set_string(p, context, key, value)
                else:
                    p.call("fsconfig", context, abi.FSCONFIG_SET_FLAG, key, 0, 0)
            tree = create_mount(p, context, attributes)
        else:
            tree = _clone(p, r, path, recursive=False, set=attributes, clear=clear)
        place = p.result("WALK", base, name, ops.WALK_DIRECTORY, _DIRECTORY_MODE)
        attach(p, tree, place)
        p.close(place)
        p.close(tree)
        for alias in name.split(",") if "," in name else ():
            p.call("symlinkat", name, base, alias)
    _set_propagation(p, base, mount.options)
    if attributes & abi.MOUNT_ATTR_RDONLY:
        set_mount(p, base, 0, set=abi.MOUNT_ATTR_RDONLY)
    p.close(base)
