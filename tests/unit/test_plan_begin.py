"""The beginning of every plan, and its forks (decisions 1, 2, 3, 10)."""

import errno

import pytest
from support.plans import Listing, in_order, made, request, small_spec

from skerry.plan import begin
from skerry.plan.build import Plan

CLONE_PARENT, CLONE_PIDFD, CLONE_INTO_CGROUP = 0x8000, 0x1000, 0x200000000


def begun(spec: dict | None = None, **facts: object) -> Listing:
    p = Plan("x86_64")
    r = request(spec, **facts)
    begin.begin(p, r, last_fd=5 + r.preserve)
    return Listing(p)


@pytest.mark.parametrize("preserve", [0, 3])
def test_inherited_fds_are_closed_first(preserve: int) -> None:
    """decisions 10, P01: posix_spawn passes what the caller left inheritable."""
    listing = begun(preserve=preserve)
    close, cloexec = listing.all[1:3]
    assert (close.name, close.args) == ("CLOSE", [6 + preserve])
    # ... and what is the plan's own does not pass execve (CLOSE_RANGE_CLOEXEC); the preserved ones do
    assert (cloexec.name, cloexec.args) == ("close_range", [3 + preserve, 0xFFFFFFFF, 4])


def test_fds_of_a_plan() -> None:
    assert made(preserve=2).plan.fds == {5: "the plan", 6: "the conversation", 7: "the gate"}
    assert made(cgroup_version=2).plan.fds[6] == "the cgroup's directory"
    assert made(preserve=2).plan.conversation_fd == 6


def test_signals_and_umask_of_the_caller_go() -> None:
    """P05, P06."""
    listing = begun()
    assert listing.one("SIGNALS").args == []
    assert listing.one("rt_sigprocmask").args == [2, bytes(8), 0, 8]  # SIG_SETMASK, none
    assert listing.one("umask").args == [0]


def test_oom_score() -> None:
    """engines 2: the host may forbid lowering it; the error says so."""
    spec = small_spec()
    spec["process"]["oomScoreAdj"] = -5
    listing = begun(spec)
    write = listing.one("WRITE")
    assert write.args[1:] == ["-5", 2]
    assert listing.one("openat", -100, "/proc/self/oom_score_adj").pointer == "/process/oomScoreAdj"
    assert "CAP_SYS_RESOURCE" in write.hints[errno.EACCES]


def test_no_oom_score_is_left_alone() -> None:
    """config.md: MUST NOT change the value if it is not set."""
    assert not begun().find("WRITE")


def test_hard_limits_are_raised_where_the_host_s_capabilities_count() -> None:
    """The soft ones stay, or the steps in between starve."""
    spec = small_spec()
    spec["process"]["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 5000},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]
    listing = begun(spec, limits={7: (1024, 4096), 4: (0, -1)})
    raise_ = listing.one("prlimit64")
    assert raise_.args[:2] == [0, 7]
    assert raise_.words(2) == [1024, 5000]
    assert "4096" in raise_.hints[errno.EPERM]


def test_unlimited_is_above_everything() -> None:
    spec = small_spec()
    spec["process"]["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1}]
    assert not begun(spec, limits={4: (0, -1)}).find("prlimit64")
    assert begun(spec, limits={4: (0, 5)}).one("prlimit64").words(2) == [0, 2**64 - 1]


# --- forks


def forked(**how: object) -> Listing:
    p = Plan("x86_64")
    p.enter_process("skerry:1:outer")
    begin.fork(p, "skerry:2:init", **how)
    return Listing(p)


def test_fork_makes_a_sister() -> None:
    """decisions 1: CLONE_PARENT, and no exit signal of its own (SIGCHLD there is EINVAL)."""
    clone = forked(flags=0x20000).one("clone3")
    words = clone.words(0)
    assert words[0] == CLONE_PARENT | CLONE_PIDFD | 0x20000
    assert words[4] == 0
    assert clone.args[1] == 88  # CLONE_ARGS_SIZE_VER2


def test_parent_tells_of_the_child_and_ends() -> None:
    listing = forked()
    clone, branch, load, send, leave, name = listing.all[1:]
    assert (branch.name, branch.args[0].number, branch.args[1:]) == ("BRANCH", clone.dst.number, [0, 0])  # EQ 0
    assert branch.target == name.index
    assert (load.name, load.args[1]) == ("LOAD", 4)
    assert (send.name, send.args[0]) == ("SEND", 2)  # PID
    assert send.args[1].number == clone.dst.number and send.args[2].number == load.dst.number
    assert (leave.name, leave.args) == ("exit_group", [0])
    assert (name.process, name.args) == ("skerry:2:init", [15, "skerry:2:init"])
    assert leave.process == "skerry:1:outer"


def test_pidfd_is_read_where_the_kernel_put_it() -> None:
    p = Plan("x86_64")
    p.enter_process("x")
    begin.fork(p, "y")
    clone, load = p.ops[1], p.ops[3]
    pointer = int.from_bytes(p.data[clone.args[0].offset + 8 : clone.args[0].offset + 16], "little")
    assert pointer == load.args[0].offset
    assert clone.args[0].offset + 8 in p.relocations


def test_birth_in_the_cgroup() -> None:
    words = forked(cgroup_fd=6).one("clone3").words(0)
    assert words[0] & CLONE_INTO_CGROUP and words[10] == 6
    words = forked().one("clone3").words(0)
    assert not words[0] & CLONE_INTO_CGROUP and words[10] == 0


def test_hints_of_a_fork_belong_to_the_call() -> None:
    assert forked(hints={errno.EBUSY: "why"}).one("clone3").hints == {errno.EBUSY: "why"}


# --- files of procfs


def test_files_are_opened_below_without_links_or_other_mounts() -> None:
    """V16, security 5.6: RESOLVE_NO_XDEV, NO_MAGICLINKS, BENEATH."""
    p = Plan("x86_64")
    begin.write_file(p, 9, "sys/kernel/sem", "1 2 3 4")
    opened, write, close = Listing(p).all
    assert opened.args[:2] == [9, "sys/kernel/sem"]
    assert opened.words(2) == [0o2000001, 0, 0x01 | 0x02 | 0x08]
    assert write.args[1:] == ["1 2 3 4", 7]
    in_order(opened, write, close)
