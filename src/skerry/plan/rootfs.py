"""The root file system: taken on the host, put in place and pivoted into inside.

Runs in: create (hot); pure.   Imports: linux.abi, plan.
Source:  open_tree(2), move_mount(2), pivot_root(2), overlayfs.rst; runtime-spec config.md "Root".
Never:   resolves a path of the container; everything goes by the root's fd.
"""

from errno import EINVAL, EPERM

from skerry.errors import SpecError
from skerry.linux import abi
from skerry.plan.build import Plan, Reg
from skerry.plan.request import Request

EMPTY_TREE = abi.AT_EMPTY_PATH | abi.AT_RECURSIVE
_MOVE = abi.MOVE_MOUNT_F_EMPTY_PATH | abi.MOVE_MOUNT_T_EMPTY_PATH
_LAYERS = "/annotations/run.skerry.layers"
# mount(2) takes a page less its last byte, and drops the rest without a word
_OPTIONS_BYTES = 4095
_PROPAGATION = {
    "shared": abi.MS_SHARED,
    "slave": abi.MS_SLAVE,
    "private": abi.MS_PRIVATE,
    "unbindable": abi.MS_UNBINDABLE,
}


def propagation(r: Request) -> "tuple[int, int]":
    """(propagation, AT_RECURSIVE or 0) that the spec asks for `/`; (0, 0) if it says nothing."""
    word = r.linux.get("rootfsPropagation") or ""
    if not word:
        return 0, 0
    if word in _PROPAGATION:
        return _PROPAGATION[word], 0
    return _PROPAGATION[word[1:]], abi.AT_RECURSIVE


def is_shared(r: Request) -> bool:
    """Mounts of the container shall reach the host, so nothing may be made a slave on the way."""
    return propagation(r)[0] == abi.MS_SHARED


def set_mount(
    p: Plan, tree: "int | Reg", flags: int, *, set: int = 0, clear: int = 0, propagation: int = 0
) -> None:
    """mount_setattr on a tree held by fd."""
    p.call(
        "mount_setattr",
        tree,
        "",
        abi.AT_EMPTY_PATH | flags,
        p.words([set, clear, propagation, 0]),
        32,
    )


def attach(p: Plan, tree: Reg, target: Reg) -> None:
    """Put a detached tree on the directory or file held by `target`, whatever its path is by now."""
    p.call("move_mount", tree, "", target, "", _MOVE)


def take(p: Plan, r: Request) -> Reg:
    """On the host: hold the root as a detached tree, and stand in its directory.

    Cloning here works for roots below directories that only the host's root may enter, and keeps what the host
    propagates (docs/decisions/0003).
    """
    if r.layers:
        _mount_layers(p, r)
    p.step(f"open rootfs {r.rootfs_path}", "/root/path")
    directory_only, nofollow = abi.OPEN_FLAGS[p.machine]
    flags = abi.O_PATH | abi.O_CLOEXEC | directory_only | nofollow
    directory = p.result("openat", abi.AT_FDCWD, r.rootfs_path, flags, 0)
    flags = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC | EMPTY_TREE
    tree = p.result("open_tree", directory, "", flags)
    if is_shared(r):
        set_mount(p, tree, 0, propagation=abi.MS_PRIVATE)  # pivot_root refuses a shared root
    else:
        set_mount(p, tree, abi.AT_RECURSIVE, propagation=abi.MS_SLAVE)
    p.call("fchdir", directory)
    p.close(directory)
    return tree


def place(p: Plan, r: Request, tree: Reg, below: "Reg | None") -> None:
    """Inside: cut the propagation to the host, then attach the tree to its own directory.

    `below` is a mount that shall be attached, out of sight: the tree goes on top of it.

    All of it is cut, whatever the spec says of the container's root: what the spec wants shared is shared by the trees,
    which were taken before. An unmount that travelled would be of the host's own /proc and /sys.
    """
    p.step("cut mount propagation to the host")
    p.call(
        "mount_setattr", abi.AT_FDCWD, "/", abi.AT_RECURSIVE, p.words([0, 0, abi.MS_SLAVE, 0]), 32
    )
    p.step(f"mount the rootfs on {r.rootfs_path}", "/root/path")
    if r.namespace("mount"):
        p.call("chdir", r.rootfs_path)  # a joined mount namespace moved us to its root
    if below is not None:
        p.call("move_mount", below, "", abi.AT_FDCWD, ".", abi.MOVE_MOUNT_F_EMPTY_PATH)
    p.call("move_mount", tree, "", abi.AT_FDCWD, ".", abi.MOVE_MOUNT_F_EMPTY_PATH)
    p.call("fchdir", tree)


def make_readonly(p: Plan, r: Request, tree: Reg) -> None:
    if (r.spec.get("root") or {}).get("readonly"):
        p.step("make the rootfs read-only", "/root/readonly")
        set_mount(p, tree, 0, set=abi.MOUNT_ATTR_RDONLY)


def pivot(p: Plan, r: Request, tree: Reg) -> None:
    """Make the tree the root, and let go of the host's."""
    if r.no_pivot:
        _move_to_root(p, r, tree)
    else:
        p.step("pivot into the rootfs")
        old = p.result("openat", abi.AT_FDCWD, "/", abi.O_PATH | abi.O_CLOEXEC, 0)
        p.call("fchdir", tree)
        p.call("pivot_root", ".", ".")
        # Slave first, so that the unmount does not travel to the host.
        p.call("fchdir", old)
        set_mount(p, old, abi.AT_RECURSIVE, propagation=abi.MS_SLAVE)
        p.call("umount2", ".", abi.MNT_DETACH)
        p.close(old)
    p.call("chdir", "/")
    kind, recursive = propagation(r)
    if kind:
        p.step("set the propagation of the rootfs", "/linux/rootfsPropagation")
        p.call("mount_setattr", abi.AT_FDCWD, "/", recursive, p.words([0, 0, kind, 0]), 32)


def _move_to_root(p: Plan, r: Request, tree: Reg) -> None:
    """--no-pivot, for roots on a ramfs. The old root stays below ours, so nothing whole may stay in it.

    A full proc or sysfs there would let a container with CAP_SYS_ADMIN mount an unmasked one.
    """
    for path in r.full_mounts:
        p.step(f"hide {path} of the host")
        hidden, gone = p.mark(), p.mark()
        p.call("umount2", path, abi.MNT_DETACH, jump=(EINVAL, EPERM), to=hidden)
        p.goto(gone)
        p.place(hidden)
        p.call("mount", "tmpfs", path, "tmpfs", 0, 0)
        p.place(gone)
    p.step("move the rootfs onto /")
    p.call("fchdir", tree)
    p.call("move_mount", tree, "", abi.AT_FDCWD, "/", abi.MOVE_MOUNT_F_EMPTY_PATH)
    p.call("chroot", ".")


def _mount_layers(p: Plan, r: Request) -> None:
    """The layers as one overlay on `rootfs_path`, in a mount namespace of this process alone.

    mount(2) takes a page of options, so the paths are given relative to what they have in common. Not fsconfig: its
    strings end at 255 bytes.
    """
    *lower, scratch = r.layers
    common = _common_directory(r.layers)
    names = [_escape(path[len(common) :] or ".") for path in lower]
    upper, work = [_escape(f"{scratch}/{name}"[len(common) :]) for name in ("upper", "work")]
    p.step("make the overlay of the layers", _LAYERS)
    p.call("unshare", abi.CLONE_NEWNS)
    p.call(
        "mount_setattr", abi.AT_FDCWD, "/", abi.AT_RECURSIVE, p.words([0, 0, abi.MS_SLAVE, 0]), 32
    )
    p.call("chdir", common)
    options = f"lowerdir={':'.join(names)},upperdir={upper},workdir={work}"
    length = len(options.encode())
    if length > _OPTIONS_BYTES:
        rule = f"the paths are too long: {length} bytes of options, mount takes {_OPTIONS_BYTES}"
        raise SpecError(_LAYERS, rule)
    p.call("mount", "overlay", r.rootfs_path, "overlay", 0, options)


def _common_directory(paths: "list[str]") -> str:
    """The deepest directory above all of them, with its final slash."""
    first, last = min(paths), max(paths)
    length = 0
    while length < len(first) and first[length : length + 1] == last[length : length + 1]:
        length += 1
    return first[: first.rindex("/", 0, length) + 1]


def _escape(path: str) -> str:
    for special in "\\:,":
        path = path.replace(special, "\\" + special)
    return path
