"""The order inside init, row by row of the table in security.md 5.9, each with what breaks if the rows change places."""

import pytest
from support.plans import (
    Listing,
    Seen,
    exec_request,
    in_order,
    join,
    made,
    map_users,
    request,
    small_spec,
)

from skerry.plan import create
from skerry.plan import join as exec_recipe

SETNS_NET, SETNS_PID = 0x40000000, 0x20000000
SECCOMP, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP, PR_SET_KEEPCAPS, PR_CAP_AMBIENT = (
    1, 4, 38, 24, 8, 47,
)  # fmt: skip


class Filter:
    """A compiled filter; the bytes do not matter here."""

    flags, filter, listener = 0, bytes(8), False


def full() -> dict:
    """A spec that asks for something in every row."""
    spec = small_spec()
    spec["hostname"] = "box"
    spec["root"]["readonly"] = True
    spec["process"].update(
        noNewPrivileges=True,
        oomScoreAdj=7,
        rlimits=[{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
        apparmorProfile="profile",
        scheduler={"policy": "SCHED_BATCH"},
        ioPriority={"class": "IOPRIO_CLASS_BE"},
    )
    spec["process"]["capabilities"]["ambient"] = ["CAP_KILL"]
    spec["process"]["user"] = {"uid": 1000, "gid": 1000}
    spec["hooks"] = {"createContainer": [{"path": "/a"}], "startContainer": [{"path": "/b"}]}
    spec["linux"].update(
        sysctl={"net.ipv4.ip_forward": "1"},
        readonlyPaths=["/proc/sys"],
        maskedPaths=["/proc/kcore"],
        personality={"domain": "LINUX32"},
        memoryPolicy={"mode": "MPOL_BIND", "nodes": "0"},
    )
    return spec


STATE = b'{"pid":9999999999}'
FACTS = {
    "seccomp": Filter(),
    "console": True,
    "hook_states": {"createContainer": STATE, "startContainer": STATE},
}


@pytest.fixture(scope="module")
def listing() -> Listing:
    return made(full(), **FACTS)


def first(listing: Listing, step: str) -> Seen:
    return listing.find(step=step)[0]


def test_oom_score_before_it_cannot_be_traced(listing: Listing) -> None:
    """The proc files of a process that is not dumpable change their owner."""
    in_order(first(listing, "oom_score_adj"), listing.find("prctl", PR_SET_DUMPABLE, 0)[0])


def test_keyring_before_anything_of_the_image(listing: Listing) -> None:
    """The host's keyring must be gone before foreign code."""
    in_order(first(listing, "session keyring"), first(listing, "mount the rootfs"))


def test_propagation_is_cut_before_the_first_mount(listing: Listing) -> None:
    """Host mounts must not receive ours."""
    in_order(first(listing, "cut mount propagation"), first(listing, "mount the rootfs"), first(listing, "mount proc"))


def test_hooks_come_after_the_file_system_and_before_the_pivot(listing: Listing) -> None:
    """runtime.md: after the namespaces exist, before pivot_root."""
    in_order(
        first(listing, "mount tmpfs on /dev"),
        first(listing, "make device /dev/null"),
        first(listing, "make the links"),
        first(listing, "let the host's hooks run"),
        listing.one("HOOK", "/a"),
        listing.one("pivot_root"),
    )


def test_old_root_is_slave_before_it_goes(listing: Listing) -> None:
    """Slave first, or the unmount travels to the host; its fd is closed before anything of the image is used."""
    pivot = listing.one("pivot_root", ".", ".")
    slave = next(op for op in listing.find("mount_setattr", step="pivot"))
    unmount = listing.one("umount2", ".", 2)
    in_order(pivot, slave, unmount)
    assert slave.words(3) == [0, 0, 1 << 19, 0]  # MS_SLAVE
    assert slave.args[2] & 0x8000  # AT_RECURSIVE
    old = listing.one("openat", -100, "/", step="pivot")
    in_order(old, pivot, listing.writes_through(old, "close")[0], first(listing, "open the root"))


def test_joined_pid_namespace_comes_after_the_pivot() -> None:
    """V32, decisions 19: until then its processes could see the host's root through our /proc/PID/root."""
    spec = full()
    join(spec, "pid", "/run/pid")
    listing = made(spec, **FACTS)
    in_order(
        listing.one("HOOK", "/a"),
        listing.one("pivot_root"),
        listing.one("setns", ..., SETNS_PID, step="join pid namespace"),
        first(listing, "fork skerry:3:init"),
        first(listing, "start a session"),
    )


def test_new_pid_namespace_is_entered_by_the_fork_before_the_mounts() -> None:
    """A procfs shows the namespace of its maker."""
    spec = full()
    join(spec, "network", "/run/net")
    listing = made(spec, **FACTS)
    in_order(listing.one("unshare"), first(listing, "fork skerry:3:init"), first(listing, "mount proc"))


def test_pid_is_on_record_before_the_first_fork() -> None:
    """decisions 3: a crash finds every process in the journal."""
    spec = full()
    join(spec, "network", "/run/net")
    for listing in (made(full(), **FACTS), made(spec, **FACTS), exec_listing(cgroup_version=2)):
        in_order(listing.one("RECV", 16, step="our pid to be on record"), listing.find("clone3")[0])


def test_console_after_dev_and_before_the_masks(listing: Listing) -> None:
    """V15: it needs the finished /dev, and nothing masked under it."""
    in_order(
        first(listing, "make the links"),
        listing.one("HOOK", "/a"),
        first(listing, "open a terminal"),
        first(listing, "set sysctl"),
    )


def test_root_is_read_only_when_nothing_more_is_made(listing: Listing) -> None:
    """The console's file and a missing cwd are made in it."""
    in_order(
        first(listing, "bind the terminal on /dev/console"),
        first(listing, "enter the directory"),
        first(listing, "make the rootfs read-only"),
    )


def test_sysctls_then_readonly_then_masked(listing: Listing) -> None:
    """/proc/sys becomes read-only; masks cover files of both."""
    in_order(
        first(listing, "set sysctl"),
        first(listing, "make /proc/sys read-only"),
        first(listing, "mask /proc/kcore"),
    )


def test_private_procfs_before_the_pivot(listing: Listing) -> None:
    """decisions 20: in a user namespace fsmount(proc) is EPERM after it."""
    in_order(first(listing, "open a private procfs"), listing.one("pivot_root"))


def test_host_name_in_the_new_namespace(listing: Listing) -> None:
    assert listing.one("sethostname", "box", 3).process == "skerry:2:init"


def test_what_needs_privileges_comes_before_the_user(listing: Listing) -> None:
    """sched_setattr, ioprio_set and set_mempolicy, while privileged and before a filter may forbid them."""
    user = listing.one("setresuid", 1000, 1000, 1000)
    for name in ("sched_setattr", "ioprio_set", "personality", "set_mempolicy", "prlimit64", "capset", "umask"):
        assert listing.find(name), name
    for name in ("sched_setattr", "ioprio_set", "personality", "set_mempolicy"):
        in_order(listing.one("prctl", PR_SET_NO_NEW_PRIVS, 1), listing.one(name), listing.find("seccomp")[0])
        in_order(listing.one(name), user)


def test_affinity_before_the_scheduler(listing: Listing) -> None:
    """sched_setattr(2): SCHED_DEADLINE is EPERM unless every processor is allowed."""
    in_order(listing.one("sched_setaffinity"), listing.one("sched_setattr"))


def test_early_filter_before_the_capabilities_go() -> None:
    """seccomp(2): without no_new_privs it takes CAP_SYS_ADMIN."""
    spec = full()
    spec["process"]["noNewPrivileges"] = False
    listing = made(spec, **FACTS)
    assert not listing.find("prctl", PR_SET_NO_NEW_PRIVS)
    in_order(
        listing.one("set_mempolicy"),
        listing.one("seccomp", SECCOMP),
        listing.find("prctl", PR_CAPBSET_DROP)[0],
    )


def test_late_filter_is_nearly_the_last(listing: Listing) -> None:
    """As few system calls as possible come after it."""
    filter = listing.one("seccomp", SECCOMP)
    in_order(listing.one("FIND"), filter, listing.one("SEND", 6, step="ready"))
    after = {op.name for op in listing if op.index > filter.index}
    assert after == {"SEND", "RECV", "close", "GATE", "HOOK", "rt_sigprocmask", "execve"}


def test_user_switch(listing: Listing) -> None:
    """Bounding needs CAP_SETPCAP; the switch drops the rest; groups need CAP_SETGID."""
    in_order(
        listing.find("prctl", PR_CAPBSET_DROP)[-1],
        listing.one("prctl", PR_SET_KEEPCAPS, 1),
        listing.one("setgroups"),
        listing.one("setresgid", 1000, 1000, 1000),
        listing.one("setresuid", 1000, 1000, 1000),
        listing.one("capset"),
        listing.find("prctl", PR_CAP_AMBIENT)[0],
    )


def test_directory_before_and_checked_after_the_switch(listing: Listing) -> None:
    """V12: getcwd after the last moment at which it could have become another."""
    in_order(
        first(listing, "enter the directory"),
        listing.one("setresuid", 1000, 1000, 1000),
        listing.find("CHECKCWD")[-1],
        listing.one("FIND"),
    )


def test_directory_is_made_before_the_umask(listing: Listing) -> None:
    """decisions 26: 0755, whatever umask the spec asks for."""
    in_order(listing.one("WALK", ..., "/", 1, 0o755, step="enter the directory"), listing.find("umask")[-1])


def test_directory_is_entered_again_with_the_final_rights(listing: Listing) -> None:
    """security 5.3."""
    in_order(listing.find("prctl", PR_CAP_AMBIENT)[-1], listing.one("chdir", "/", step="enter the directory"))


def test_program_is_looked_for_as_the_user_before_ready(listing: Listing) -> None:
    """decisions 27: a missing program fails create, judged by the final ids."""
    in_order(listing.find("prctl", PR_CAP_AMBIENT)[-1], listing.one("FIND"), listing.one("SEND", 6, step="ready"))


def test_everything_else_is_closed_before_the_user(listing: Listing) -> None:
    """V02, V12: no directory fd lives when the ids change."""
    close = listing.one("CLOSE", step="close what the program shall not have")
    in_order(first(listing, "make the rootfs read-only"), close, listing.one("setresuid", 1000, 1000, 1000))


def test_label_before_the_files_go(listing: Listing) -> None:
    """It goes through the private procfs, which is closed with the rest."""
    in_order(first(listing, "set the AppArmor profile"), listing.one("CLOSE", step="close what the program"))


def test_ready_then_record_then_gate_then_hooks_then_execve(listing: Listing) -> None:
    """A crash after READY finds a record; startContainer hooks run in the container, at start."""
    in_order(
        listing.one("SEND", 6, step="ready"),
        listing.one("RECV", 16, step="wait to be on record"),
        listing.one("GATE"),
        listing.one("HOOK", "/b"),
        listing.one("execve"),
    )
    assert listing.all[-1].name == "execve"


def test_caller_is_left_behind_first(listing: Listing) -> None:
    """decisions 10, P05: before anything is opened."""
    assert [op.name for op in listing.all[:7]] == [
        "prctl", "CLOSE", "close_range", "SIGNALS", "rt_sigprocmask", "umask", "openat",
    ]  # fmt: skip


def test_sources_are_taken_before_the_first_namespace() -> None:
    """decisions 16: a source below a 0700 directory is EACCES from inside, and a late clone loses rslave."""
    spec = small_spec()
    map_users(spec)
    spec["mounts"].append({"destination": "/x", "type": "bind", "source": "/src", "options": ["rbind"]})
    listing = made(spec, sources={2: ("/src", True)})
    fork = listing.find("clone3")[0]
    in_order(listing.one("open_tree", -100, "/src"), fork)
    in_order(listing.one("open_tree", -100, "/dev/null"), fork)
    in_order(listing.one("open_tree", step="open rootfs"), fork)


def test_mounts_keep_the_order_of_the_spec() -> None:
    """config.md: MUST mount entries in the listed order."""
    spec = small_spec()
    spec["mounts"] += [
        {"destination": "/b", "type": "tmpfs"},
        {"destination": "/a", "type": "bind", "source": "/s", "options": ["bind"]},
        {"destination": "/b/c", "type": "tmpfs"},
    ]
    listing = made(spec, sources={3: ("/s", True)})
    places = [op.args[1] for op in listing.find("WALK", step="find the place")]
    assert places == ["/proc", "/dev", "/b", "/a", "/b/c"]


# --- exec


def exec_listing(**facts: object) -> Listing:
    return Listing(exec_recipe.build(exec_request(full()["process"], full(), **facts)))


def test_exec_hides_before_it_joins() -> None:
    """V02, decisions 21."""
    listing = exec_listing()
    in_order(
        listing.find("prctl", PR_SET_DUMPABLE, 0)[0],
        listing.one("RECV", 16, step="our pid"),
        listing.one("setns", ..., 0x6C020000),
        listing.one("clone3"),
        listing.one("execve"),
    )


def test_exec_is_born_in_the_cgroup_before_it_joins() -> None:
    """decisions 2: from inside a user namespace CLONE_INTO_CGROUP is EACCES."""
    listing = exec_listing(cgroup_version=2)
    into, other = listing.find("clone3")
    assert into.words(0)[0] & 0x200000000 and into.words(0)[10] == 6
    assert not other.words(0)[0] & 0x200000000
    in_order(into, listing.one("setns", ..., 0x6C020000), other)


@pytest.mark.parametrize("version", [1, 2])
def test_exec_chooses_its_processors_when_it_is_in_the_cgroup(version: int) -> None:
    """config.md: `final` after the transition to the container's cgroup."""
    listing = exec_listing(cgroup_version=version)
    moved = listing.find("clone3")[0] if version == 2 else listing.one("RECV", 16, step="our pid")
    in_order(moved, listing.one("sched_setaffinity"), listing.one("setns", ..., 0x6C020000))


def test_exec_becomes_root_of_the_user_namespace_after_joining_it() -> None:
    listing = exec_listing(join_user=True)
    in_order(listing.one("setns", ..., 0x7C020000), listing.one("setresuid", 0, 0, 0), listing.one("clone3"))


def test_exec_is_ready_before_it_waits() -> None:
    listing = exec_listing()
    in_order(listing.one("SEND", 6), listing.one("RECV", 16, step="being on record"), listing.one("execve"))


def test_exec_ends_with_execve_and_says_so_by_closing() -> None:
    """decisions 3: end of file on the conversation, which is close-on-exec and closed by nothing else."""
    listing = exec_listing()
    close = listing.one("CLOSE", step="close what the program shall not have")
    assert close.args == [3, 4]  # all from the plan's fd up, but the conversation
    assert listing.all[-1].name == "execve"
    assert not listing.find("close", 4)


def test_start_begins_where_create_waits() -> None:
    """failure.py counts from the end: the operations behind the gate are the same in both."""
    r = request(full(), **FACTS)
    whole, end = Listing(create.build(r)), Listing(create.build_end(request(full(), **FACTS)))
    behind = [op for op in whole if op.index > whole.one("GATE").index]
    assert [(op.name, op.step) for op in behind] == [(op.name, op.step) for op in end]
