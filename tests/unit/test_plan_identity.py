"""Who the program is: ids, groups, capabilities, limits, keyring, stdio (V01, V10, V19, V20, V56; decisions 23, 25)."""

import errno
import struct

import pytest
from support.plans import Listing, made, map_users, small_spec

CAPBSET_DROP, CAP_AMBIENT, RAISE, CLEAR_ALL = 24, 47, 2, 4
KILL, BIND, AUDIT = 5, 10, 29  # linux/capability.h


def user(**entry: object) -> Listing:
    spec = small_spec()
    spec["process"]["user"] = entry
    return made(spec)


def caps(sets: dict, **facts: object) -> Listing:
    spec = small_spec()
    spec["process"]["capabilities"] = sets
    return made(spec, **facts)


def test_ids_are_numbers_and_all_three_of_them() -> None:
    listing = user(uid=1000, gid=1001)
    assert listing.one("setresuid").args == [1000, 1000, 1000]
    assert listing.one("setresgid").args == [1001, 1001, 1001]


@pytest.mark.parametrize("groups", [None, []])
def test_groups_of_the_caller_never_come_along(groups: list | None) -> None:
    """V56."""
    entry = {"uid": 0, "gid": 0, **({} if groups is None else {"additionalGids": groups})}
    assert user(**entry).one("setgroups").args == [0, 0]


def test_additional_groups() -> None:
    """setgroups(2): an array of 32-bit ids."""
    op = user(uid=0, gid=0, additionalGids=[5, 70000, 4294967294]).one("setgroups")
    assert op.args == [3, struct.pack("<3I", 5, 70000, 4294967294)]


def test_ids_that_are_not_mapped_are_told() -> None:
    for name in ("setgroups", "setresgid", "setresuid"):
        assert "not mapped" in made().one(name).hints[errno.EINVAL]


@pytest.mark.parametrize(("entry", "umask"), [({}, 0o022), ({"umask": 0}, 0), ({"umask": 0o77}, 0o77)])
def test_umask(entry: dict, umask: int) -> None:
    """decisions 25: never the caller's."""
    assert user(uid=0, gid=0, **entry).find("umask")[-1].args == [umask]


# --- capabilities


def test_bounding_set() -> None:
    """Everything up to the kernel's last one that is not asked for."""
    dropped = [op.args[1] for op in caps({"bounding": ["CAP_KILL"]}, last_cap=40).find("prctl", CAPBSET_DROP)]
    assert dropped == [n for n in range(41) if n != KILL]


def test_kernel_with_fewer_capabilities() -> None:
    """PR_CAPBSET_DROP of an unknown one is EINVAL; an unknown wish is ignored."""
    listing = caps({"bounding": ["CAP_CHECKPOINT_RESTORE"], "effective": ["CAP_CHECKPOINT_RESTORE"]}, last_cap=39)
    assert [op.args[1] for op in listing.find("prctl", CAPBSET_DROP)] == list(range(40))
    assert listing.one("capset").args[1] == bytes(24)


def test_sets_are_those_of_the_spec() -> None:
    """V10: inheritable and ambient come from the config alone. capset(2): three low halves in twos, then the high ones."""
    listing = caps({"effective": ["CAP_KILL"], "permitted": ["CAP_KILL", "CAP_BPF"], "inheritable": ["CAP_NET_BIND_SERVICE"]})
    header, data = listing.one("capset").args
    assert header == struct.pack("<Ii", 0x20080522, 0)
    assert struct.unpack("<6I", data) == (1 << KILL, 1 << KILL, 1 << BIND, 0, 1 << (39 - 32), 0)


def test_nothing_asked_for_is_nothing() -> None:
    listing = caps({})
    assert len(listing.find("prctl", CAPBSET_DROP)) == 41
    assert listing.one("capset").args[1] == bytes(24)


def test_ambient_set() -> None:
    """capabilities(7): cleared, then raised one by one; what is not inheritable too is left out, as in runc."""
    listing = caps({"ambient": ["CAP_AUDIT_WRITE", "CAP_KILL"]})
    ambient = listing.find("prctl", CAP_AMBIENT)
    assert [op.args[1:3] for op in ambient] == [[CLEAR_ALL, 0], [RAISE, KILL], [RAISE, AUDIT]]
    assert ambient[0].fail == 0 and ambient[1].errnos == (errno.EPERM,)


def test_what_the_host_does_not_grant_is_told() -> None:
    assert "fewer capabilities" in made().one("capset").hints[errno.EPERM]


# --- no_new_privs, limits, keyring, stdio


@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privs(wanted: bool) -> None:
    spec = small_spec()
    spec["process"]["noNewPrivileges"] = wanted
    assert bool(made(spec).find("prctl", 38, 1)) == wanted


def test_limits() -> None:
    """prlimit(2): -1 is no limit; each has its pointer."""
    spec = small_spec()
    spec["process"]["rlimits"] = [
        {"type": "RLIMIT_CORE", "soft": 1, "hard": 2},
        {"type": "RLIMIT_RTTIME", "soft": 5, "hard": 2**64 - 1},
    ]
    first, second = made(spec, limits={4: (0, -1), 15: (0, -1)}).find("prlimit64")
    assert (first.args[:2], first.words(2), first.pointer) == ([0, 4], [1, 2], "/process/rlimits/0")
    assert (second.args[:2], second.words(2)) == ([0, 15], [5, 2**64 - 1])


def test_session_keyring() -> None:
    """keyrings(7): a new one, named so that an exec finds it, and searched by its user."""
    listing = made()
    joined = listing.one("keyctl", 1, "_ses.box")
    allow = listing.one("keyctl", 5)
    assert allow.args[1].number == joined.dst.number
    assert allow.args[2] == 0x3F1B0000
    assert joined.errnos == (errno.ENOSYS,) and joined.target == allow.index + 1


def test_kept_session_keyring() -> None:
    assert not made(new_keyring=False).find("keyctl")


@pytest.mark.parametrize("fds", [(), (0, 2), (0, 1, 2)])
def test_stdio_goes_to_the_user(fds: tuple) -> None:
    """V20, decisions 23: uid alone; what does not allow it is left."""
    spec = small_spec()
    spec["process"]["user"] = {"uid": 1000, "gid": 5}
    owners = made(spec, stdio_owner=fds).find("fchown")
    assert [op.args for op in owners] == [[fd, 1000, 0xFFFFFFFF] for fd in fds]
    assert all(set(op.errnos) == {errno.EPERM, errno.EINVAL, errno.EROFS} for op in owners)


def test_root_of_a_user_namespace() -> None:
    """In a joined one setgroups may be denied; then the host's groups are not ours to drop."""
    spec = small_spec()
    map_users(spec)
    listing = made(spec)
    ops = listing.find(step="become root")
    assert [(op.name, op.args) for op in ops] == [
        ("setresgid", [0, 0, 0]), ("setgroups", [0, 0]), ("setresuid", [0, 0, 0]),
    ]  # fmt: skip
    assert "must map" in ops[0].hints[errno.EINVAL]
