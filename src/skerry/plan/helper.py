"""The recipe for a program of the host that serves a VM: QEMU, virtiofsd, mkfs.

Runs in: vmshim; pure.   Imports: linux.abi, plan.
Source:  docs/vm.md "Confinement"; prctl(2) PR_SET_PDEATHSIG, capabilities(7), mount_setattr(2).
Never:   chooses a program or a user; nothing here is found by PATH.

The helper ends with whoever started it: SIGKILL is its parent-death signal, set after the change of user (which takes
it away) and before the last word from the parent (whose absence is an end of file).
"""

from errno import EACCES, ENOENT

from skerry.linux import abi
from skerry.plan import begin, identity, ops
from skerry.plan.build import Plan
from skerry.plan.request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SHARED_FILE = "file"
_SIGKILL = 9
# What a share keeps of its directory: a guest makes no device of the host's out of it, and no link leads out.
_SHARE_ATTRIBUTES = abi.MOUNT_ATTR_NOSUID | abi.MOUNT_ATTR_NODEV | abi.MOUNT_ATTR_NOSYMFOLLOW
_MOUNT_ATTR_BYTES = 32


class Share:
    """A directory, or a single file, of the host that the helper sees at a mount point of its own.

    source, point   absolute paths; the point is a directory that exists
    read_only       the mount is, whatever the helper does
    recursive       what is mounted below comes along
    file            the source is no directory: it is SHARED_FILE in an otherwise empty one
    """

    __slots__ = ("file", "point", "read_only", "recursive", "source")

    def __init__(
        self,
        source: str,
        point: str,
        *,
        read_only: bool,
        recursive: bool = True,
        file: bool = False,
    ) -> None:
        self.source, self.point, self.file = source, point, file
        self.read_only, self.recursive = read_only, recursive


class Helper:
    """What is started, and how little it gets.

    argv        the absolute path of the program first
    fds         what each of the fds from 3 up is, in order
    namespaces  CLONE_* mask of new, empty namespaces
    share       None, or what is mounted in its own mount namespace
    """

    __slots__ = ("argv", "fds", "namespaces", "share")

    def __init__(
        self,
        argv: "Sequence[str]",
        fds: "Sequence[str]",
        *,
        namespaces: int = 0,
        share: "Share | None" = None,
    ) -> None:
        self.argv = list(argv)
        self.fds = list(fds)
        self.namespaces = namespaces
        self.share = share


def build(r: Request, helper: Helper) -> Plan:
    """From skerry-init to the program.

    Shape   starts with fds 0-2, those of the helper from 3 up (`r.preserve` of them), plan, conversation, and on v2 the
            directory of the cgroup to be born in. `r.process` has user, capabilities and rlimits.
    """
    p = Plan(r.machine)
    born_inside = r.cgroup_version == 2
    last = r.cgroup_fd if born_inside else r.conversation_fd
    for number, what in enumerate(helper.fds, 3):
        p.fds[number] = what
    begin.begin(p, r, last_fd=last, name="skerry:1:outer" if born_inside else "skerry:helper")
    begin.wait_for(p, "our pid to be on record")
    if born_inside:
        p.fds[r.cgroup_fd] = "directory of the cgroup"
        begin.fork(p, "skerry:helper", cgroup_fd=r.cgroup_fd)
    p.step("hide from tracers")
    p.call("prctl", abi.PR_SET_DUMPABLE, 0)
    p.step("leave the caller's session and directory")
    p.call("setsid")
    p.call("chdir", "/")
    if helper.namespaces:
        p.step("make namespaces of its own")
        p.call("unshare", helper.namespaces)
    if helper.share is not None:
        _mount_share(p, helper.share)
    _become_user(p, r)
    p.step("end with the parent")
    p.call("prctl", abi.PR_SET_PDEATHSIG, _SIGKILL)
    p.step("say that everything but the program is ready")
    p.call("SEND", ops.READY, 0, -1)
    begin.wait_for(p, "being on record")
    _execute(p, helper)
    return p


def _become_user(p: Plan, r: Request) -> None:
    """As for a container's program, in the same order (plan/program.py)."""
    identity.set_no_new_privs(p, r)
    identity.set_limits(p, r)
    p.step("set the umask")
    p.call("umask", 0o077)
    identity.drop_bounding(p, r)
    identity.switch_user(p, r)
    identity.set_capabilities(p, r)


def _mount_share(p: Plan, share: Share) -> None:
    """The tree is taken before the mount namespace is left, its attributes are set before anybody sees it."""
    how = "read-only" if share.read_only else "writable"
    p.step(f"take the {how} tree {share.source}", "", {ENOENT: "there is none"})
    flags = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC
    flags |= abi.AT_RECURSIVE if share.recursive else 0
    tree = p.result("open_tree", abi.AT_FDCWD, share.source, flags)
    attributes = _SHARE_ATTRIBUTES | (abi.MOUNT_ATTR_RDONLY if share.read_only else 0)
    # propagation private: what the host mounts later does not show through, nor the other way round
    attr = p.words([attributes, 0, abi.MS_PRIVATE, 0])
    where = (tree, "", abi.AT_EMPTY_PATH | abi.AT_RECURSIVE)
    p.call("mount_setattr", *where, attr, _MOUNT_ATTR_BYTES)
    p.step("leave the host's mount namespace")
    p.call("unshare", abi.CLONE_NEWNS)
    slave = p.words([0, 0, abi.MS_SLAVE, 0])
    p.call("mount_setattr", abi.AT_FDCWD, "/", abi.AT_RECURSIVE, slave, _MOUNT_ATTR_BYTES)
    if share.file:
        target = f"{share.point}/{SHARED_FILE}"
        p.step(f"make a place for the file in {share.point}")
        p.call("mount", "tmpfs", share.point, "tmpfs", 0, p.text("size=4k,nr_inodes=4,mode=755"))
        flags = abi.O_WRONLY | abi.O_CREAT | abi.O_EXCL | abi.O_CLOEXEC
        p.close(p.result("openat", abi.AT_FDCWD, target, flags, 0o644))
        closed = p.words([attributes | abi.MOUNT_ATTR_RDONLY, 0, 0, 0])
        p.call("mount_setattr", abi.AT_FDCWD, share.point, 0, closed, _MOUNT_ATTR_BYTES)
    else:
        target = share.point
    p.step(f"mount the tree on {target}")
    p.call("move_mount", tree, "", abi.AT_FDCWD, target, abi.MOVE_MOUNT_F_EMPTY_PATH)
    p.close(tree)


def _execute(p: Plan, helper: Helper) -> None:
    program = helper.argv[0]
    hints = {ENOENT: "the program or its loader is missing", EACCES: "it cannot be executed"}
    p.step(f'execute "{program}"', "", hints)
    argv = p.words([*[p.text(arg) for arg in helper.argv], 0])
    p.call("execve", program, argv, p.words([0]))
