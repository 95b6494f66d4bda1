"""New file systems: configured, made, and held as detached mounts.

Runs in: create (hot); pure.   Imports: linux.abi, plan.
Source:  fsopen(2), fsconfig(2), fsmount(2); Documentation/filesystems/proc.rst "pidns".
Never:   attaches anything; plan/mounts.py finds the place.
"""

from errno import EBUSY, EINVAL, EPERM

from skerry.linux import abi
from skerry.plan import ops
from skerry.plan.build import Mark, Plan, Reg
from skerry.plan.rootfs import set_mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.plan.mounts import Mount
    from skerry.spec.mount_options import MountOptions

_SIGCHLD = 17
_HINTS = {
    EPERM: "the kernel allows it only in a user namespace that owns the pid or network namespace, "
    "and where the host's own is not masked",
    EBUSY: "the host's own is masked or missing",
}


def make(p: Plan, mount: "Mount", pid_namespace: "Reg | None") -> Reg:
    """A detached mount with the attributes it can have from the beginning.

    `pid_namespace` is for a procfs: the fd of a joined one.
    """
    context = _open_context(p, mount)
    if pid_namespace is None:
        return _configure(p, mount, context)
    helped, done = p.mark(), p.mark()
    p.call(
        "fsconfig",
        context,
        abi.FSCONFIG_SET_FD,
        "pidns",
        0,
        pid_namespace,
        jump=(EINVAL,),
        to=helped,
    )
    tree = _configure(p, mount, context)
    p.goto(done)
    p.place(helped)
    p.call("close", context)
    _make_by_helper(p, mount, pid_namespace, tree)
    p.place(done)
    return tree


def _make_by_helper(p: Plan, mount: "Mount", pid_namespace: Reg, slot: Reg) -> None:
    """Before Linux 6.17 a procfs cannot be told its pid namespace; it is that of its maker.

    A helper enters that namespace with a fork and leaves the mount in a slot of the fds it shares with us. It is not
    us who enter: a hook born there before the pivot would show the host's root to the container's processes.
    """
    mount.step(p, "mount", hints=_HINTS)
    p.result("openat", abi.AT_FDCWD, "/", abi.O_PATH | abi.O_CLOEXEC, 0, into=slot)
    helper, outside = _fork_helper(p)
    p.call("setns", pid_namespace, abi.CLONE_NEWPID)
    maker, inside = _fork_helper(p)
    tree = _configure(p, mount, _open_context(p, mount))
    p.call("dup3", tree, slot, abi.O_CLOEXEC)
    p.call("close", tree)
    p.call("exit_group", 0)
    for mark, pid in ((inside, maker), (outside, helper)):
        p.place(mark)
        mount.step(p, "wait for the helper to mount")
        p.call("WAIT", pid)
        if mark is inside:
            p.call("exit_group", 0)


def _fork_helper(p: Plan) -> "tuple[Reg, Mark]":
    """Go on in a child that shares our fds; the parent goes on at the mark, with the pid."""
    words = [abi.CLONE_FILES, 0, 0, 0, _SIGCHLD, 0, 0, 0, 0, 0, 0]
    pid = p.result("clone3", p.words(words), 88)
    child, parent = p.mark(), p.mark()
    p.branch(pid, ops.EQ, 0, child)
    p.goto(parent)
    p.place(child)
    return pid, parent


def _open_context(p: Plan, mount: "Mount") -> Reg:
    mount.step(p, "mount", hints=_HINTS)
    context = p.result("fsopen", mount.kind, abi.FSOPEN_CLOEXEC)
    set_string(p, context, "source", mount.source)
    return context


def _configure(p: Plan, mount: "Mount", context: Reg) -> Reg:
    options = mount.options
    flags = [flag for flag in options.flags if flag != "ro"]
    if "ro" in options.flags and not mount.readonly_late:
        flags.append("ro")
    for flag in flags:
        p.call("fsconfig", context, abi.FSCONFIG_SET_FLAG, flag, 0, 0)
    for item in options.data:
        mount.step(
            p,
            f"set {item} of",
            f"options/{mount.words.index(item)}",
            {EINVAL: "not an option of it"},
        )
        key, equals, value = item.partition("=")
        if equals:
            set_string(p, context, key, value)
        else:
            p.call("fsconfig", context, abi.FSCONFIG_SET_FLAG, key, 0, 0)
    mount.step(p, "mount", hints=_HINTS)
    return create_mount(p, context, _first_attributes(mount), options)


def set_string(p: Plan, context: Reg, key: str, value: str) -> None:
    p.call("fsconfig", context, abi.FSCONFIG_SET_STRING, key, value, 0)


def create_mount(
    p: Plan, context: Reg, attributes: int, options: "MountOptions | None" = None
) -> Reg:
    """Turn a configured context into a detached mount."""
    p.call("fsconfig", context, abi.FSCONFIG_CMD_CREATE, 0, 0, 0)
    tree = p.result("fsmount", context, abi.FSMOUNT_CLOEXEC, attributes)
    p.close(context)
    for value in options.propagation if options else ():
        set_mount(p, tree, 0, propagation=value & ~abi.MS_REC)
    return tree


def _first_attributes(mount: "Mount") -> int:
    attributes = mount.options.set_attrs | mount.options.recursive_set
    return attributes & ~abi.MOUNT_ATTR_RDONLY if mount.readonly_late else attributes
