"""What of /proc and /sys is hidden, made read-only, or set: masked paths, read-only paths, sysctl, labels.

Runs in: create, exec (hot); pure.   Imports: linux.abi, plan.
Source:  runtime-spec config-linux.md "Masked Paths", "Readonly Paths", "Sysctl"; config.md "apparmorProfile".
Never:   mounts or writes by path: a path is resolved once, to an fd, and the mount or write goes to that fd.
"""

from errno import EACCES, EBADF, EINVAL, ENOENT, ENOTDIR, ENOTSUP, EPERM

from skerry.linux import abi
from skerry.plan import ops
from skerry.plan.begin import write_file
from skerry.plan.build import Plan, Reg
from skerry.plan.filesystems import create_mount, set_string
from skerry.plan.mounts import Mount, start_of
from skerry.plan.request import Request
from skerry.plan.rootfs import EMPTY_TREE, attach, set_mount

_NULL_DEVICE = 0x103  # 1:3
_PROC_ROOT_INODE = 1
_TMPFS_ATTRS = (
    abi.MOUNT_ATTR_RDONLY | abi.MOUNT_ATTR_NOSUID | abi.MOUNT_ATTR_NODEV | abi.MOUNT_ATTR_NOEXEC
)


def open_proc(p: Plan) -> Reg:
    """A procfs of our own that nothing of the image can cover (CVE-2025-52881).

    In a user namespace the kernel may refuse a new one (it would show what is hidden); then the /proc in sight is held:
    the host's before the pivot, the container's after it. What is written goes through no other mount.
    """
    p.step("open a private procfs")
    refused, done = p.mark(), p.mark()
    context = p.result("fsopen", "proc", abi.FSOPEN_CLOEXEC, jump=(EPERM,), to=refused)
    p.call("fsconfig", context, abi.FSCONFIG_CMD_CREATE, 0, 0, 0, jump=(EPERM,), to=refused)
    attributes = abi.MOUNT_ATTR_NOSUID | abi.MOUNT_ATTR_NODEV | abi.MOUNT_ATTR_NOEXEC
    proc = p.result("fsmount", context, abi.FSMOUNT_CLOEXEC, attributes, jump=(EPERM,), to=refused)
    p.goto(done)
    p.place(refused)
    p.step("open /proc")
    p.result("openat", abi.AT_FDCWD, "/proc", abi.O_PATH | abi.O_CLOEXEC, 0, into=proc)
    p.call("CHECK", proc, abi.S_IFDIR, 0, abi.PROC_SUPER_MAGIC, _PROC_ROOT_INODE)
    p.place(done)
    p.call("close", context, ignore=(EBADF,))
    return proc


def set_sysctls(p: Plan, r: Request, proc: Reg) -> None:
    settings = r.linux.get("sysctl")
    if not settings:
        return
    from skerry.spec.sysctl import sysctl_path

    for key, value in settings.items():
        hints = {
            ENOENT: "the kernel has no such setting in this namespace",
            EINVAL: f"the kernel refuses the value {value!r}",
            EACCES: "the container's namespaces do not own it",
        }
        p.step(
            f"set sysctl {key}", "/linux/sysctl/" + key.replace("~", "~0").replace("/", "~1"), hints
        )
        write_file(p, proc, "sys/" + sysctl_path(key), value)


def set_apparmor(p: Plan, r: Request, proc: Reg) -> None:
    """Ask for the profile at the next execve; `attr/apparmor` is where newer kernels keep it."""
    profile = (r.process or {}).get("apparmorProfile")
    if not profile:
        return
    hints = {
        ENOENT: f"profile {profile!r} is not loaded, or the kernel has no AppArmor",
        EINVAL: "AppArmor is not enabled",
    }
    p.step(f"set the AppArmor profile {profile}", f"{r.pointer}/apparmorProfile", hints)
    old, done = p.mark(), p.mark()
    how = [
        abi.O_WRONLY | abi.O_CLOEXEC,
        0,
        abi.RESOLVE_NO_XDEV | abi.RESOLVE_NO_MAGICLINKS | abi.RESOLVE_BENEATH,
    ]
    raw = f"exec {profile}".encode()
    path = "thread-self/attr/apparmor/exec"
    fd = p.result("openat2", proc, path, p.words(how), 24, jump=(ENOENT,), to=old)
    p.goto(done)
    p.place(old)
    p.result("openat2", proc, "thread-self/attr/exec", p.words(how), 24, into=fd)
    p.place(done)
    p.call("WRITE", fd, p.text(raw), len(raw))
    p.close(fd)


def set_readonly_paths(p: Plan, r: Request, root: Reg, mounts: "list[Mount]") -> None:
    for index, path in enumerate(r.linux.get("readonlyPaths") or ()):
        p.step(f"make {path} read-only", f"/linux/readonlyPaths/{index}")
        absent = p.mark()
        found = p.result(
            "WALK",
            *start_of(mounts, root, path),
            ops.WALK_EXISTING,
            0,
            jump=(ENOENT, ENOTDIR),
            to=absent,
        )
        flags = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC | EMPTY_TREE
        tree = p.result("open_tree", found, "", flags)
        set_mount(p, tree, abi.AT_RECURSIVE, set=abi.MOUNT_ATTR_RDONLY)
        attach(p, tree, found)
        p.close(tree)
        p.close(found)
        p.place(absent)


def make_empty(p: Plan, r: Request) -> "Reg | None":
    """The empty read-only tmpfs that hides directories: one for all of them.

    Before Linux 6.15 only a mount that is attached somewhere can be cloned, so rootfs.place() puts it below the root,
    where the pivot leaves it behind with the rest of the host's mounts.
    """
    if not r.linux.get("maskedPaths"):
        return None
    p.step("make the empty directory that masks show", "/linux/maskedPaths")
    context = p.result("fsopen", "tmpfs", abi.FSOPEN_CLOEXEC)
    set_string(p, context, "nr_blocks", "1")
    set_string(p, context, "nr_inodes", "1")
    return create_mount(p, context, _TMPFS_ATTRS)


def mask_paths(
    p: Plan, r: Request, root: Reg, mounts: "list[Mount]", empty: "Reg | None"
) -> None:
    """Cover files with /dev/null, directories with what make_empty() made.

    The null device is the host's, checked; the container's own could be anything (CVE-2025-31133).
    """
    if empty is None:
        return
    p.step("open the null device", "/linux/maskedPaths")
    null = p.result("openat", abi.AT_FDCWD, "/dev/null", abi.O_PATH | abi.O_CLOEXEC, 0)
    p.call("CHECK", null, abi.S_IFCHR, _NULL_DEVICE, 0, 0)
    flags = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC | abi.AT_EMPTY_PATH
    for index, path in enumerate(r.linux["maskedPaths"]):
        p.step(f"mask {path}", f"/linux/maskedPaths/{index}")
        absent, file, done = p.mark(), p.mark(), p.mark()
        found = p.result(
            "WALK",
            *start_of(mounts, root, path),
            ops.WALK_EXISTING,
            0,
            jump=(ENOENT, ENOTDIR),
            to=absent,
        )
        p.call("CHECK", found, abi.S_IFDIR, 0, 0, 0, jump=(ENOTSUP,), to=file)
        tree = p.result("open_tree", empty, "", flags)
        p.goto(done)
        p.place(file)
        p.result("open_tree", null, "", flags, into=tree)
        p.place(done)
        attach(p, tree, found)
        p.close(tree)
        p.close(found)
        p.place(absent)
    p.close(null)
    p.close(empty)
