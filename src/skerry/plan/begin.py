"""What every plan starts with: a clean process, and the forks.

Runs in: create, exec (hot); pure.   Imports: linux.abi, plan.
Source:  clone3(2), decisions of docs/decisions/0001; close_range(2).
Never:   knows what the processes are for.
"""

from errno import EACCES, EPERM

from skerry.linux import abi
from skerry.plan import ops
from skerry.plan.build import Plan, Reg
from skerry.plan.request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_CLOSE_RANGE_CLOEXEC = 4
_SIG_SETMASK = 2
_ALL_SIGNALS = b"\xff" * 8
_NO_CAP = "needs CAP_SYS_RESOURCE, which this host does not grant"


def begin(p: Plan, r: Request, *, last_fd: int, name: str = "skerry:1:outer") -> None:
    """Open the plan: the first process, which runs in the host's namespaces as the host's root.

    What the caller of skerry had open or ignored is an accident: nothing of it may reach the
    container (the Python that spawned us cannot close inherited fds, and ignores SIGPIPE).
    """
    p.conversation_fd = r.conversation_fd
    p.fds[r.plan_fd] = "the plan"
    p.fds[r.conversation_fd] = "the conversation"
    p.enter_process(name)
    p.step("close what the caller left open")
    p.call("CLOSE", last_fd + 1)
    p.call("close_range", r.plan_fd, 0xFFFFFFFF, _CLOSE_RANGE_CLOEXEC)
    p.step("start with clean signals and umask")
    p.call("SIGNALS")
    unblock_signals(p)
    p.call("umask", 0)
    if r.process:
        _oom_score(p, r)
        _raise_limits(p, r)


def block_signals(p: Plan) -> None:
    p.call("rt_sigprocmask", _SIG_SETMASK, p.blob(_ALL_SIGNALS), 0, 8)


def unblock_signals(p: Plan) -> None:
    p.call("rt_sigprocmask", _SIG_SETMASK, p.blob(bytes(8)), 0, 8)


def fork(
    p: Plan,
    name: str,
    *,
    flags: int = 0,
    cgroup_fd: int = -1,
    hints: "dict[int, str] | None" = None,
) -> None:
    """Go on in a child, a sister of this process (its parent is the Python that spawned us).

    The parent process of the listing reports the child's pid and ends. A fork with CLONE_PARENT takes
    the exit signal of the first process, so whoever inherits the child gets SIGCHLD.
    """
    p.step(f"fork {name}", hints=hints)
    flags |= abi.CLONE_PARENT | abi.CLONE_PIDFD
    pidfd = p.reserve(8)
    target = 0
    if cgroup_fd >= 0:
        flags |= abi.CLONE_INTO_CGROUP
        target = cgroup_fd
    pid = p.result("clone3", p.words([flags, pidfd, 0, 0, 0, 0, 0, 0, 0, 0, target]), 88)
    child = p.mark()
    p.branch(pid, ops.EQ, 0, child)
    p.call("SEND", ops.PID, pid, p.result("LOAD", pidfd, 4))
    p.call("exit_group", 0)
    p.place(child)
    p.enter_process(name)
    if cgroup_fd >= 0:
        p.call("close", cgroup_fd)  # a directory of the host: before anybody inside can see us


def wait_for(p: Plan, what: str) -> None:
    """Go on when the parent has done its part."""
    p.step(f"wait for {what}")
    p.call("RECV", ops.GO, p.text(""), 0)


def park(p: Plan, purpose: str, *, spared: "Sequence[int]" = ()) -> None:
    """Leave the caller behind, say so, and sleep with these fds until SIGTERM."""
    p.step("leave the caller's session and directory")
    p.call("setsid")
    p.call("chdir", "/")
    p.step("say that all is there")
    p.call("SEND", ops.READY, 0, -1)
    wait_for(p, "being on record")
    p.step(purpose)
    p.call("CLOSE", 0, *spared)
    p.call("PARK")


def write_file(p: Plan, directory: "int | Reg", path: str, content: "str | bytes") -> None:
    """Write a file of procfs or sysfs below a directory fd, without following magic links."""
    fd = open_below(p, directory, path, abi.O_WRONLY)
    raw = content.encode() if type(content) is str else content
    p.call("WRITE", fd, p.text(raw), len(raw))
    p.close(fd)


def open_below(p: Plan, directory: "int | Reg", path: str, flags: int) -> Reg:
    """Open below a directory fd: no other mount, no magic link, nothing above it."""
    resolve = abi.RESOLVE_NO_XDEV | abi.RESOLVE_NO_MAGICLINKS | abi.RESOLVE_BENEATH
    return p.result("openat2", directory, path, p.words([flags | abi.O_CLOEXEC, 0, resolve]), 24)


def _oom_score(p: Plan, r: Request) -> None:
    score = r.process.get("oomScoreAdj")  # type: ignore[union-attr]
    if score is None:
        return
    hint = f"{score} is below the current value: {_NO_CAP}"
    p.step("set oom_score_adj", f"{r.pointer}/oomScoreAdj", {EACCES: hint, EPERM: hint})
    fd = p.result(
        "openat", abi.AT_FDCWD, "/proc/self/oom_score_adj", abi.O_WRONLY | abi.O_CLOEXEC, 0
    )
    raw = str(score).encode()
    p.call("WRITE", fd, p.text(raw), len(raw))
    p.close(fd)


def _raise_limits(p: Plan, r: Request) -> None:
    """Raise hard limits here, where the host's capabilities count; the final values come last.

    Low soft limits would starve the steps in between of fds and processes.
    """
    for index, entry in enumerate(r.process.get("rlimits") or ()):  # type: ignore[union-attr]
        number = abi.RLIMITS[entry["type"]]
        soft, hard = r.limits.get(number, (0, 0))
        wanted = limit_value(entry["hard"])
        if wanted <= limit_value(hard):
            continue
        hint = f"{entry['type']} hard {entry['hard']} exceeds {hard}: {_NO_CAP}"
        p.step(f"raise {entry['type']}", f"{r.pointer}/rlimits/{index}", {EPERM: hint})
        p.call("prlimit64", 0, number, p.words([limit_value(soft), wanted]), 0)


def limit_value(value: int) -> int:
    """RLIM_INFINITY is -1 for Python and all ones for the kernel."""
    return value & 0xFFFFFFFFFFFFFFFF
