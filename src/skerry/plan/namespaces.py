"""Namespaces: which are new, which are joined, and in what order.

Runs in: create (hot); pure.   Imports: linux.abi, plan.
Source:  namespaces(7), user_namespaces(7), time_namespaces(7), setns(2), clone3(2).
Never:   mounts; the mount namespace is filled by rootfs.py and mounts.py.

Where everything is new, one clone3 makes it all. Where something is joined by path, or a time namespace is made (it
takes effect at the next fork, and its offsets must be written before), a middle process joins and unshares.
"""

from errno import EINVAL, EPERM

from skerry.linux import abi
from skerry.plan import ops
from skerry.plan.begin import fork, wait_for
from skerry.plan.build import Plan, Reg
from skerry.plan.identity import become_root
from skerry.plan.request import Request

# type -> clone flag, in the order they are joined. `user` goes between the two passes.
FLAGS = {
    "user": abi.CLONE_NEWUSER,
    "ipc": abi.CLONE_NEWIPC,
    "uts": abi.CLONE_NEWUTS,
    "network": abi.CLONE_NEWNET,
    "pid": abi.CLONE_NEWPID,
    "cgroup": abi.CLONE_NEWCGROUP,
    "time": abi.CLONE_NEWTIME,
    "mount": abi.CLONE_NEWNS,
}
# What the MAPS record is about
MAPS_USER, MAPS_TIME = 1, 2

_PROC_NS = {
    "user": "user", "ipc": "ipc", "uts": "uts", "network": "net", "pid": "pid", "cgroup": "cgroup",
    "time": "time", "mount": "mnt",
}  # fmt: skip
_IFREQ_BYTES = 40
_IFF_UP = 1
_AF_INET, _SOCK_DGRAM_CLOEXEC = 2, 0o2000002


def file_name(kind: str) -> str:
    """The name below /proc/<pid>/ns."""
    return _PROC_NS[kind]


def pointer_of(r: Request, kind: str) -> str:
    for index, entry in enumerate(r.linux.get("namespaces") or ()):
        if entry["type"] == kind:
            return f"/linux/namespaces/{index}"
    return "/linux/namespaces"


def new_flags(r: Request) -> int:
    flags = 0
    for entry in r.linux.get("namespaces") or ():
        if not entry.get("path"):
            flags |= FLAGS[entry["type"]]
    return flags


def joined(r: Request) -> "dict[str, str]":
    """type -> path of the namespaces to join, in joining order."""
    paths = {e["type"]: e["path"] for e in r.linux.get("namespaces") or () if e.get("path")}
    return {kind: paths[kind] for kind in FLAGS if kind in paths}


def needs_join_stage(r: Request) -> bool:
    return bool(joined(r)) or bool(new_flags(r) & abi.CLONE_NEWTIME)


def open_paths(p: Plan, r: Request) -> "dict[str, Reg]":
    """Open every namespace file first: the paths are the host's, and later ones would not be."""
    fds = {}
    for kind, path in joined(r).items():
        p.step(f"open {kind} namespace {path}", pointer_of(r, kind) + "/path")
        fds[kind] = p.result("openat", abi.AT_FDCWD, path, abi.O_RDONLY | abi.O_CLOEXEC, 0)
    return fds


def enter_new(p: Plan, r: Request, *, cgroup_fd: int) -> None:
    """Be born in all the new namespaces at once, and in the cgroup."""
    fork(p, "skerry:2:init", flags=new_flags(r), cgroup_fd=cgroup_fd)
    if new_flags(r) & abi.CLONE_NEWUSER:
        _ask_for_maps(p)
    # From here no process of a joined namespace may trace us or read our memory (CVE-2016-9962). Earlier, the
    # kernel would refuse the parent's writes to uid_map.
    p.step("hide from tracers")
    p.call("prctl", abi.PR_SET_DUMPABLE, 0)


def join_and_unshare(p: Plan, r: Request, fds: "dict[str, Reg]", *, cgroup_fd: int) -> None:
    """The middle process: join what has a path, make what is new; the caller forks afterwards.

    Two passes, because a namespace may belong to the host's user namespace (it can be joined before the container's
    user namespace only) or to the container's (after only).
    """
    fork(p, "skerry:2:join", cgroup_fd=cgroup_fd)
    if fds:
        p.step("hide from tracers")
        p.call("prctl", abi.PR_SET_DUMPABLE, 0)
    others = [kind for kind in fds if kind not in ("user", "pid")]
    first_pass = {}
    for kind in others:
        _join_step(p, r, kind)
        postpone = (EPERM,) if "user" in fds else None
        first_pass[kind] = p.result("setns", fds[kind], FLAGS[kind], ignore=postpone)
    if "user" in fds:
        _join_step(p, r, "user")
        p.call("setns", fds["user"], FLAGS["user"])
        become_root(p)
        for kind in others:
            _join_step(p, r, kind)
            done = p.mark()
            p.branch(first_pass[kind], ops.EQ, 0, done)
            p.call("setns", fds[kind], FLAGS[kind])
            p.place(done)
    _unshare(p, r, new_flags(r))
    for kind in fds:
        if kind != "pid":
            p.close(fds[kind])


def join_pid(p: Plan, r: Request, fd: Reg) -> None:
    """Children of this process will be born in the joined pid namespace."""
    _join_step(p, r, "pid")
    p.call("setns", fd, FLAGS["pid"])
    p.close(fd)


def bring_up_loopback(p: Plan, r: Request) -> None:
    """As runc and crun do: a new network namespace has a loopback that is down."""
    if not new_flags(r) & abi.CLONE_NEWNET:
        return
    p.step("bring up the loopback interface", pointer_of(r, "network"))
    request = bytearray(_IFREQ_BYTES)
    request[0:2] = b"lo"
    request[16] = _IFF_UP
    fd = p.result("socket", _AF_INET, _SOCK_DGRAM_CLOEXEC, 0)
    p.call("ioctl", fd, abi.SIOCSIFFLAGS, p.blob(request))
    p.close(fd)


def _join_step(p: Plan, r: Request, kind: str) -> None:
    path = joined(r)[kind]
    hints = {EINVAL: f"{path} is not a {kind} namespace, or it is ours already"}
    p.step(f"join {kind} namespace {path}", pointer_of(r, kind) + "/path", hints)


def _unshare(p: Plan, r: Request, flags: int) -> None:
    if flags & abi.CLONE_NEWUSER:
        p.step("make a user namespace", pointer_of(r, "user"))
        p.call("unshare", abi.CLONE_NEWUSER)
        p.call("prctl", abi.PR_SET_DUMPABLE, 1)  # the parent's writes to uid_map need it
        _ask_for_maps(p)
        p.call("prctl", abi.PR_SET_DUMPABLE, 0)
        flags &= ~abi.CLONE_NEWUSER
    if flags:
        p.step("make the new namespaces", "/linux/namespaces")
        p.call("unshare", flags)
    if flags & abi.CLONE_NEWTIME and r.linux.get("timeOffsets"):
        p.step("set the time offsets", "/linux/timeOffsets")
        p.call("prctl", abi.PR_SET_DUMPABLE, 1)
        p.call("SEND", ops.MAPS, MAPS_TIME, -1)
        wait_for(p, "the time offsets")
    p.step("hide from tracers")
    p.call("prctl", abi.PR_SET_DUMPABLE, 0)


def _ask_for_maps(p: Plan) -> None:
    """Wait for the maps of our new user namespace, then be its root."""
    p.step("ask for the id maps", "/linux/uidMappings")
    p.call("SEND", ops.MAPS, MAPS_USER, -1)
    wait_for(p, "the id maps")
    become_root(p)
