"""Mounts: trees taken on the host, made or attached inside (security 5.5; V05, V06, V08, V33)."""

import errno

import pytest
from support.plans import Listing, in_order, join, made, map_users, small_spec

from skerry.errors import SpecError
from skerry.plan.mounts import clean

RDONLY, NOSUID, NODEV, NOEXEC, ATIME, NOATIME = 1, 2, 4, 8, 0x70, 0x10
EMPTY_PATH, RECURSIVE = 0x1000, 0x8000
SET_FLAG, SET_STRING, SET_FD, CREATE = 0, 1, 5, 6
PROC_MAGIC = 0x9FA0
DIRECTORY, FILE, EXISTING, NOFOLLOW = 1, 2, 8, 16
SLAVE, SHARED, PRIVATE = 1 << 19, 1 << 20, 1 << 18


def one(entry: dict, *, is_directory: bool = True, **facts: object) -> Listing:
    """The small spec with one more mount, its third."""
    spec = small_spec()
    spec["mounts"].append(entry)
    sources = {2: (entry.get("source", ""), is_directory)}
    return made(spec, sources=sources, **facts)


def bind(*options: str, **how: object) -> Listing:
    return one({"destination": "/x", "type": "bind", "source": "/src", "options": list(options)}, **how)


def attributes(listing: Listing, on: str = "/x") -> list[tuple[bool, int, int, int]]:
    """(recursive, set, clear, propagation) of each mount_setattr of the mount."""
    return [
        (bool(op.args[2] & RECURSIVE), *op.words(3)[:3]) for op in listing.find("mount_setattr", step=f" on {on}")
    ]


@pytest.mark.parametrize(("option", "recursive"), [("bind", 0), ("rbind", RECURSIVE)])
def test_bind_source_is_cloned_on_the_host(option: str, recursive: int) -> None:
    listing = bind(option)
    tree = listing.one("open_tree", -100, "/src")
    assert tree.args[2] == 1 | 0o2000000 | recursive
    assert (tree.process, tree.pointer) == ("skerry:1:outer", "/mounts/2/source")


def test_attributes_come_before_the_mount_is_seen() -> None:
    """No moment at which a read-only volume can be written."""
    listing = bind("rbind", "ro", "nosuid")
    set_ = next(op for op in listing.find("mount_setattr", step="/src") if op.words(3)[0])
    tree = listing.one("open_tree", -100, "/src")
    assert set_.args[0].number == tree.dst.number
    in_order(set_, next(op for op in listing.find("move_mount") if op.args[0].number == tree.dst.number))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["bind"], [(True, 0, 0, SLAVE)]),
        (["bind", "ro"], [(True, 0, 0, SLAVE), (False, RDONLY, 0, 0)]),
        (["rbind", "rro"], [(True, 0, 0, SLAVE), (True, RDONLY, 0, 0)]),
        (["bind", "dev", "noatime"], [(True, 0, 0, SLAVE), (False, NOATIME, NODEV | ATIME, 0)]),
        (["rbind", "rshared"], [(True, 0, 0, SLAVE), (True, 0, 0, SHARED)]),
        (["bind", "private"], [(True, 0, 0, SLAVE), (False, 0, 0, PRIVATE)]),
    ],
    ids=["bind", "ro", "rro", "cleared", "rshared", "private"],
)
def test_attributes_of_binds(options: list[str], wanted: list) -> None:
    """mount_setattr(2); an r stands for the whole tree. A slave first: what is private or shared is so among the container."""
    assert attributes(bind(*options)) == wanted


def test_shared_rootfs_keeps_the_host_s_propagation() -> None:
    spec = small_spec()
    spec["linux"]["rootfsPropagation"] = "shared"
    spec["mounts"].append({"destination": "/x", "type": "bind", "source": "/src", "options": ["rbind"]})
    assert attributes(made(spec, sources={2: ("/src", True)})) == []


@pytest.mark.parametrize(("is_directory", "flags", "mode"), [(True, DIRECTORY, 0o755), (False, FILE, 0o644)])
def test_place_is_made_if_it_is_missing(is_directory: bool, flags: int, mode: int) -> None:
    """Of the source's kind, below the root's fd (CVE-2024-45310)."""
    listing = bind("bind", is_directory=is_directory)
    walk = listing.one("WALK", ..., "/x", step="find the place")
    assert walk.args[2:] == [flags, mode]
    root = listing.one("move_mount", ..., "", -100, ".").args[0]
    assert walk.args[0].number == root.number


def test_mount_goes_to_the_fd_that_was_found() -> None:
    """V08: a path is resolved once."""
    listing = bind("bind")
    walk = listing.one("WALK", ..., "/x", step="find the place")
    move = next(op for op in listing.find("move_mount", step="/src") if op.index > walk.index)
    assert move.args[1] == move.args[3] == ""
    assert move.args[2].number == walk.dst.number
    assert move.args[4] == 0x04 | 0x40  # both paths are empty
    in_order(walk, move, listing.writes_through(walk, "close")[0])


@pytest.mark.parametrize(
    ("path", "cleaned"), [("data", "/data"), ("/a/./b//c/", "/a/b/c"), ("/../../a", "/a"), ("/a/b/..", "/a"), ("/..", "/")]
)
def test_destinations_stay_below_the_root(path: str, cleaned: str) -> None:
    assert clean(path) == cleaned


# --- new file systems


def test_new_file_system() -> None:
    """fsopen(2): source, options, create, mount; each option has its pointer."""
    entry = {"destination": "/t", "type": "tmpfs", "source": "s", "options": ["nosuid", "size=1m", "noswap", "sync"]}
    listing = one(entry)
    calls = [(op.args[1], *op.args[2:4]) for op in listing.find("fsconfig", step=" on /t")]
    assert calls == [
        (SET_STRING, "source", "s"), (SET_FLAG, "sync", 0), (SET_STRING, "size", "1m"), (SET_FLAG, "noswap", 0),
        (CREATE, 0, 0),
    ]  # fmt: skip
    size = listing.one("fsconfig", ..., SET_STRING, "size")
    assert (size.pointer, size.hints) == ("/mounts/2/options/1", {errno.EINVAL: "not an option of it"})
    assert listing.one("fsmount", step=" on /t").args[2] == NOSUID


def test_read_only_file_system_is_born_so() -> None:
    listing = one({"destination": "/s", "type": "sysfs", "options": ["ro", "noexec"]})
    assert listing.one("fsconfig", ..., SET_FLAG, "ro")
    assert listing.one("fsmount", step=" on /s").args[2] == RDONLY | NOEXEC
    assert not attributes(listing, "/s")


def test_read_only_tmpfs_first_takes_its_mount_points() -> None:
    """Later mounts, devices and links are made in it."""
    spec = small_spec()
    spec["mounts"] += [
        {"destination": "/t", "type": "tmpfs", "options": ["ro"]},
        {"destination": "/t/inner", "type": "tmpfs"},
    ]
    listing = made(spec)
    assert [op.args[2] for op in listing.find("fsmount", step="mount tmpfs on /t")] == [0, 0]
    made_ro = listing.one("mount_setattr", step="make read-only tmpfs on /t")
    assert made_ro.words(3) == [RDONLY, 0, 0, 0]
    in_order(listing.find("move_mount", step=" on /t/inner")[0], made_ro, listing.one("pivot_root"))
    assert not listing.find("fsconfig", ..., SET_FLAG, "ro")


def test_tmpfs_takes_over_the_mode_it_covers() -> None:
    """As runc; unless the spec gives one."""
    listing = one({"destination": "/t", "type": "tmpfs"})
    stat, load, change = listing.find(step="take over the mode for tmpfs on /t")
    assert (stat.name, stat.args[3]) == ("statx", 2)  # STATX_MODE
    assert load.args[1] == 4 and change.name == "fchmodat"
    assert change.args[2].number == load.dst.number
    assert not one({"destination": "/t", "type": "tmpfs", "options": ["mode=700"]}).find(step="take over the mode")


def test_mode_is_read_where_statx_puts_it() -> None:
    """struct statx of linux/stat.h: stx_mode lies at 28."""
    listing = one({"destination": "/t", "type": "tmpfs"})
    stat, load = listing.find("statx")[0], listing.find("LOAD", step="take over")[0]
    buffer, place = stat.op.args[4], load.op.args[0]
    assert (place.offset - buffer.offset, buffer.size) == (28, 256)


def test_tmpcopyup() -> None:
    """V41: through fds, before the tmpfs covers what is copied."""
    listing = one({"destination": "/t", "type": "tmpfs", "options": ["tmpcopyup"]})
    copy = listing.one("COPYTREE")
    walk = listing.one("WALK", ..., "/t", step="find the place")
    assert copy.args[0].number == walk.dst.number
    in_order(walk, copy, listing.find("move_mount", step=" on /t")[0])


def test_remount() -> None:
    listing = one({"destination": "/dev", "type": "none", "options": ["remount", "ro", "nosuid"]})
    walk = listing.one("WALK", ..., "/dev", EXISTING, step="remount")
    change = listing.one("mount_setattr", step="remount")
    assert change.args[0].number == walk.dst.number
    assert change.words(3) == [RDONLY | NOSUID, 0, 0, 0]


# --- /proc


@pytest.mark.parametrize("kind", ["proc", "sysfs"])
def test_proc_and_sysfs_go_on_real_directories(kind: str) -> None:
    """V06: a link there would put masks and writes somewhere else."""
    walk = one({"destination": "/k", "type": kind}).one("WALK", ..., "/k", step="find the place")
    assert walk.args[2] == DIRECTORY | NOFOLLOW
    assert not one({"destination": "/k", "type": "tmpfs"}).one("WALK", ..., "/k", step="place").args[2] & NOFOLLOW


@pytest.mark.parametrize(
    "entry",
    [
        {"destination": "/proc/self/attr/exec", "type": "bind", "source": "/s", "options": ["bind"]},
        {"destination": "/proc/../proc/sys", "type": "tmpfs"},
        {"destination": "/proc/cpuinfo", "type": "tmpfs"},
        {"destination": "/proc", "type": "tmpfs"},
    ],
    ids=["bind", "dots", "tmpfs", "proc itself"],
)
def test_mounts_in_proc_are_refused(entry: dict) -> None:
    """V05: only real procfs on /proc; binds inside it from a short list."""
    with pytest.raises(SpecError) as caught:
        one(entry)
    assert caught.value.pointer.startswith("/mounts/2/")


def test_lxcfs_files_may_be_bound() -> None:
    """runc's list."""
    entry = {"destination": "/proc/meminfo", "type": "bind", "source": "/s", "options": ["bind"]}
    assert one(entry, is_directory=False).find("WALK", ..., "/proc/meminfo", FILE)


def test_what_is_bound_on_proc_must_be_one() -> None:
    entry = {"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}
    listing = one(entry)
    check = listing.one("CHECK", step="bind /proc on /proc")
    assert errno.ENOTSUP in check.hints
    assert check.args[1:] == [0, 0, PROC_MAGIC, 0]
    tree = listing.one("open_tree", -100, "/proc")
    assert check.args[0].number == tree.dst.number
    in_order(check, [op for op in listing.find("move_mount", step=" on /proc") if op.args[0].number == tree.dst.number][-1])


def test_links_of_the_image_cannot_lead_into_proc() -> None:
    """V05: the first check passes for a procfs, and then the second one always fails."""
    listing = bind("bind")
    walk = listing.one("WALK", ..., "/x", step="find the place")
    inside, never = listing.find("CHECK", step="/src")
    assert inside.args[0].number == never.args[0].number == walk.dst.number
    assert inside.args[1:] == [0, 0, PROC_MAGIC, 0]
    assert never.args[1] == 0o140000  # S_IFSOCK
    assert (inside.errnos, never.fail) == ((errno.ENOTSUP,), 0)
    assert inside.target == never.index + 1
    move = next(op for op in listing.find("move_mount", step="/src") if op.index > walk.index)
    in_order(walk, inside, never, move)


def test_proc_of_a_joined_pid_namespace() -> None:
    """decisions 19: by pidns= where the kernel knows it."""
    spec = small_spec()
    join(spec, "pid", "/run/pid")
    listing = made(spec)
    opened = listing.one("openat", -100, "/run/pid")
    told = listing.one("fsconfig", ..., SET_FD, "pidns", 0)
    assert told.args[4].number == opened.dst.number
    assert told.errnos == (errno.EINVAL,)
    created = next(op for op in listing.find("fsconfig", ..., CREATE) if op.index > told.index)
    mounted = next(op for op in listing.find("fsmount") if op.index > created.index)
    in_order(told, created, mounted, listing.one("pivot_root"))
    # elsewhere a helper enters it, and never we: a hook before the pivot would be born there (V32)
    enter = listing.one("setns", ..., 0x20000000, step="mount proc")
    first, second = listing.find("clone3", step="mount proc")
    assert told.target < first.index < enter.index < second.index
    assert first.words(0)[0] == second.words(0)[0] == 0x400  # CLONE_FILES
    assert first.words(0)[4] == 17  # SIGCHLD, for WAIT
    assert not listing.find("clone3", step="mount tmpfs")


def test_helper_leaves_its_mount_in_the_slot() -> None:
    spec = small_spec()
    join(spec, "pid", "/run/pid")
    listing = made(spec)
    mounted = listing.find("fsmount", step="mount proc")
    slot = listing.one("openat", -100, "/", step="mount proc")
    hand = listing.one("dup3")
    assert slot.dst.number == mounted[0].dst.number == hand.args[1].number
    assert hand.args[0].number == mounted[1].dst.number
    outer, inner = listing.find("clone3", step="mount proc")
    waits = listing.find("WAIT")
    assert [op.args[0].number for op in waits] == [inner.dst.number, outer.dst.number]
    branch_inner, branch_outer = (listing.all[op.index + 2] for op in (inner, outer))
    assert (branch_inner.target, branch_outer.target) == (waits[0].index, waits[1].index)
    in_order(hand, listing.find("exit_group", 0, step="mount proc")[0], waits[0], listing.all[waits[0].index + 1])
    assert listing.all[waits[0].index + 1].name == "exit_group"


def test_proc_without_a_joined_pid_namespace_is_made_directly() -> None:
    spec = small_spec()
    map_users(spec)
    listing = made(spec)
    assert not listing.find("fsconfig", ..., SET_FD) and not listing.find("WAIT")


# --- cgroups

CGROUP = {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro", "nosuid"]}
V1 = [("memory", "/sys/fs/cgroup/memory/box", "memory"), ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/box", "cpu,cpuacct"),
      ("systemd", "/sys/fs/cgroup/systemd/box", "name=systemd")]  # fmt: skip


def in_cgroup_namespace() -> dict:
    spec = small_spec()
    spec["linux"]["namespaces"].append({"type": "cgroup"})
    spec["mounts"].append(CGROUP)
    return spec


def test_v1_is_a_tmpfs_of_the_container_s_own_directories() -> None:
    """V11: each of them read-only, the tmpfs too once it is full."""
    listing = one(CGROUP, cgroup_mounts=V1)
    trees = listing.find("open_tree", step="cgroup on")
    assert [op.args[1] for op in trees] == [path for _, path, _ in V1]
    assert [w[1] for w in attributes(listing, "/sys/fs/cgroup") if w[1]] == [RDONLY | NOSUID] * 3 + [RDONLY]
    assert [op.args[1] for op in listing.find("WALK", step="below cgroup")] == ["memory", "cpu,cpuacct", "systemd"]
    base = listing.one("fsmount", step="cgroup on")
    last = listing.find("mount_setattr", step="cgroup on")[-1]
    assert base.args[2] == NOSUID and last.args[0].number == base.dst.number


def test_v1_names_of_joined_controllers() -> None:
    """`cpu` and `cpuacct` lead to `cpu,cpuacct`, as on a host."""
    links = one(CGROUP, cgroup_mounts=V1).find("symlinkat", step="cgroup")
    assert [(op.args[0], op.args[2]) for op in links] == [("cpu,cpuacct", "cpu"), ("cpu,cpuacct", "cpuacct")]


def test_v1_in_a_cgroup_namespace_mounts_the_hierarchies() -> None:
    listing = made(in_cgroup_namespace(), cgroup_mounts=V1)
    assert len(listing.find("fsopen", "cgroup")) == 3
    words = [tuple(op.args[1:4]) for op in listing.find("fsconfig", step="below cgroup") if op.args[1] != CREATE]
    assert words == [
        (SET_STRING, "source", "cgroup"), (SET_FLAG, "memory", 0), (SET_STRING, "source", "cgroup"), (SET_FLAG, "cpu", 0),
        (SET_FLAG, "cpuacct", 0), (SET_STRING, "source", "cgroup"), (SET_FLAG, "none", 0), (SET_STRING, "name", "systemd"),
    ]  # fmt: skip
    assert all(op.args[2] == RDONLY | NOSUID for op in listing.find("fsmount", step="below cgroup"))


@pytest.mark.parametrize("namespace", [False, True])
def test_v2(namespace: bool) -> None:
    """Whole in a cgroup namespace; else the container's own directory."""
    where = "/sys/fs/cgroup/box"
    if namespace:
        listing = made(in_cgroup_namespace(), cgroup_version=2, cgroup_unified=where)
        assert listing.one("fsopen", "cgroup2")
        assert listing.one("fsmount", step="cgroup").args[2] == RDONLY | NOSUID
    else:
        listing = one(CGROUP, cgroup_version=2, cgroup_unified=where)
        assert listing.one("open_tree", -100, where)
        assert attributes(listing, "/sys/fs/cgroup")[-1][1] == RDONLY | NOSUID


def test_no_cgroup_to_mount() -> None:
    with pytest.raises(SpecError) as caught:
        one(CGROUP, cgroup_version=0)
    assert caught.value.pointer == "/mounts/2/type"
