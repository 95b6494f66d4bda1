"""Namespaces: what is made by the first fork, what by a middle process, and when it may be traced (decisions 2, 18, 21)."""

import errno

import pytest
from support.plans import Listing, in_order, join, made, map_users, small_spec

FLAG = {
    "mount": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000,
    "pid": 0x20000000, "network": 0x40000000, "time": 0x80,
}  # fmt: skip
SET_DUMPABLE = 4
MAPS, GO = 1, 16


def dumpable(listing: Listing) -> list[tuple[int, int]]:
    return [(op.index, op.args[1]) for op in listing.find("prctl", SET_DUMPABLE)]


def test_everything_new_is_one_clone3() -> None:
    """decisions 2."""
    spec = small_spec()
    spec["linux"]["namespaces"].append({"type": "cgroup"})
    listing = made(spec)
    clone = listing.one("clone3")
    kinds = ("mount", "cgroup", "uts", "ipc", "pid", "network")
    assert clone.words(0)[0] & ~0x9000 == sum(FLAG[kind] for kind in kinds)
    assert not listing.find("unshare") and not listing.find("setns")


def test_new_cgroup_namespace_is_born_inside_the_cgroup() -> None:
    """decisions 2: in one call it is rooted rightly."""
    spec = small_spec()
    spec["linux"]["namespaces"].append({"type": "cgroup"})
    clone = made(spec, cgroup_version=2).one("clone3")
    assert clone.words(0)[0] & (FLAG["cgroup"] | 0x200000000) == FLAG["cgroup"] | 0x200000000


def test_user_namespace_waits_for_its_maps_then_is_root_then_hides() -> None:
    """decisions 21: the kernel refuses the parent's writes to the maps of a process that is not dumpable."""
    spec = small_spec()
    map_users(spec)
    listing = made(spec)
    clone = listing.one("clone3")
    assert clone.words(0)[0] & FLAG["user"]
    in_order(
        clone,
        listing.one("SEND", MAPS, 1),
        listing.one("RECV", GO, step="the id maps"),
        listing.one("setresgid", 0, 0, 0, step="become root"),
        listing.one("setgroups", 0, 0, step="become root"),
        listing.one("setresuid", 0, 0, 0, step="become root"),
        listing.one("prctl", SET_DUMPABLE, 0),
        listing.one("keyctl", 1),
    )
    assert listing.one("setgroups", step="become root").errnos == (errno.EPERM,)  # denied is as good


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "cgroup", "mount"])
def test_joining(kind: str) -> None:
    """All fds first, hidden before the first join (CVE-2016-9962)."""
    spec = small_spec()
    join(spec, kind, f"/run/{kind}")
    listing = made(spec)
    opened = listing.one("openat", -100, f"/run/{kind}")
    joined = listing.one("setns")
    assert opened.process == "skerry:1:outer"
    assert (joined.process, joined.args[1]) == ("skerry:2:join", FLAG[kind])
    assert joined.args[0].number == opened.dst.number
    assert joined.fail == 0  # without a user namespace nothing is postponed
    assert "not a" in joined.hints[errno.EINVAL]
    in_order(opened, listing.find("prctl", SET_DUMPABLE, 0)[0], joined, listing.one("unshare"), listing.find("clone3")[1])
    assert joined.pointer == opened.pointer == f"/linux/namespaces/{len(spec['linux']['namespaces']) - 1}/path"


def test_what_is_not_joined_is_unshared() -> None:
    spec = small_spec()
    join(spec, "ipc", "/run/ipc")
    listing = made(spec)
    kinds = ("mount", "uts", "pid", "network")
    assert listing.one("unshare").args == [sum(FLAG[kind] for kind in kinds)]
    first, second = listing.find("clone3")
    assert first.words(0)[0] & ~0x9000 == second.words(0)[0] & ~0x9000 == 0


def test_two_passes_around_a_joined_user_namespace() -> None:
    """decisions 18: host-owned ones before it, EPERM postponed; the rest after it."""
    spec = small_spec()
    for kind in ("network", "user", "ipc"):
        join(spec, kind, f"/run/{kind}")
    listing = made(spec)
    joins = [(op.args[1], op.errnos) for op in listing.find("setns")]
    both = [(FLAG["ipc"], (errno.EPERM,)), (FLAG["network"], (errno.EPERM,))]
    assert joins == [*both, (FLAG["user"], ()), (FLAG["ipc"], ()), (FLAG["network"], ())]
    user = listing.one("setns", ..., FLAG["user"])
    in_order(
        listing.find("setns", ..., FLAG["network"])[0],
        user,
        listing.one("setresuid", 0, 0, 0, step="become root"),
        listing.find("setns", ..., FLAG["ipc"])[1],
        listing.one("unshare"),
    )
    # the second try is left out where the first one worked
    branch = listing.find("BRANCH", step="join ipc")[0]
    first, second = listing.find("setns", ..., FLAG["ipc"])
    assert branch.args[0].number == first.dst.number and branch.args[1:] == [0, 0]
    assert (branch.index, branch.target) == (second.index - 1, second.index + 1)


def test_fds_of_namespaces_are_closed() -> None:
    spec = small_spec()
    for kind in ("network", "ipc"):
        join(spec, kind, f"/run/{kind}")
    listing = made(spec)
    for kind in ("network", "ipc"):
        opened = listing.one("openat", -100, f"/run/{kind}")
        close = listing.writes_through(opened, "close")[0]
        in_order(listing.one("unshare"), close, listing.find("clone3")[1])


def test_a_user_namespace_made_after_a_join_is_dumpable_for_its_maps_only() -> None:
    """decisions 21."""
    spec = small_spec()
    map_users(spec)
    join(spec, "network", "/run/net")
    listing = made(spec)
    values = dumpable(listing)
    assert [value for _, value in values] == [0, 1, 0, 0]
    in_order(
        listing.one("setns"),
        listing.one("unshare", FLAG["user"]),
        listing.one("prctl", SET_DUMPABLE, 1),
        listing.one("SEND", MAPS, 1),
        listing.one("setresuid", 0, 0, 0, step="become root"),
        listing.find("prctl", SET_DUMPABLE, 0)[1],
        listing.find("unshare")[1],
    )


def test_time_namespace() -> None:
    """time_namespaces(7): the offsets are written before the first process is born in it."""
    spec = small_spec()
    spec["linux"]["namespaces"].append({"type": "time"})
    spec["linux"]["timeOffsets"] = {"monotonic": {"secs": 5}}
    listing = made(spec)
    assert listing.one("unshare").args[0] & FLAG["time"]
    in_order(
        listing.one("unshare"),
        listing.one("prctl", SET_DUMPABLE, 1),
        listing.one("SEND", MAPS, 2),
        listing.one("RECV", GO, step="the time offsets"),
        listing.find("prctl", SET_DUMPABLE, 0)[-1],
        listing.find("clone3")[1],
    )


def test_time_namespace_without_offsets_asks_for_none() -> None:
    spec = small_spec()
    spec["linux"]["namespaces"].append({"type": "time"})
    listing = made(spec)
    assert not listing.find("SEND", MAPS)
    assert [value for _, value in dumpable(listing)] == [0]


def test_joined_time_namespace_needs_a_fork() -> None:
    spec = small_spec()
    join(spec, "time", "/run/time")
    assert len(made(spec).find("clone3")) == 2


def test_joined_pid_namespace_is_entered_last() -> None:
    """V32: the fd stays until after the pivot; nothing is unshared with the others."""
    spec = small_spec()
    join(spec, "pid", "/run/pid")
    listing = made(spec)
    (joined,) = [op for op in listing.find("setns", ..., FLAG["pid"]) if "join pid" in op.step]
    in_order(listing.one("pivot_root"), joined, listing.find("clone3")[-1])
    assert not listing.one("unshare").args[0] & FLAG["pid"]
    assert listing.find("clone3")[-1].step == "fork skerry:3:init"


def test_loopback_is_brought_up_in_a_new_network_namespace_only() -> None:
    """As runc and crun do. struct ifreq of linux/if.h: the name, then IFF_UP."""
    up = made().one("ioctl", ..., 0x8914)
    assert up.args[2][:3] == b"lo\0" and up.args[2][16] == 1 and len(up.args[2]) == 40
    spec = small_spec()
    join(spec, "network", "/run/net")
    assert not made(spec).find("ioctl")
    spec["linux"]["namespaces"] = [{"type": "mount"}]
    assert not made(spec).find("ioctl")


@pytest.mark.parametrize(("key", "call"), [("hostname", "sethostname"), ("domainname", "setdomainname")])
def test_names(key: str, call: str) -> None:
    """In bytes, as the kernel counts."""
    spec = small_spec()
    spec[key] = "bücher"
    assert made(spec).one(call).args == ["bücher", 7]
    assert not made().find(call)
