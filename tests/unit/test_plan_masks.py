"""Masked and read-only paths, sysctls, labels, and the procfs they are written through (V05, V06, V14, V16, V33)."""

import errno

import pytest
from support.plans import Listing, in_order, join, made, map_users, small_spec

PROC_MAGIC = 0x9FA0
EXISTING = 8
TREE = 1 | 0o2000000 | 0x1000  # OPEN_TREE_CLONE, CLOEXEC, AT_EMPTY_PATH


def linux(**properties: object) -> Listing:
    spec = small_spec()
    spec["linux"].update(properties)
    return made(spec)


def test_mask_covers_by_fd() -> None:
    """CVE-2025-31133: what is found once is covered, wherever its path leads by then."""
    listing = linux(maskedPaths=["/proc/kcore"])
    found = listing.one("WALK", ..., ..., EXISTING, step="mask")
    assert found.errnos == (errno.ENOENT, errno.ENOTDIR)
    move = listing.one("move_mount", step="mask")
    assert move.args[2].number == found.dst.number
    assert found.target == listing.writes_through(found, "close")[0].index + 1
    assert found.pointer == "/linux/maskedPaths/0"


def test_null_device_is_the_host_s_and_checked() -> None:
    """V14: char 1:3."""
    listing = linux(maskedPaths=["/proc/kcore"])
    null = listing.one("openat", -100, "/dev/null")
    check = listing.one("CHECK", null.dst, 0o20000, 0x103)
    assert check.fail == 0
    tree = listing.one("open_tree", null.dst, "", TREE)
    in_order(null, check, tree, listing.one("pivot_root"))


def test_directories_show_an_empty_read_only_tmpfs() -> None:
    listing = linux(maskedPaths=["/proc/acpi", "/sys/firmware"])
    empty = listing.one("fsmount", step="empty directory")
    assert empty.args[2] == 1 | 2 | 4 | 8  # RDONLY NOSUID NODEV NOEXEC
    options = {op.args[2]: op.args[3] for op in listing.find("fsconfig", ..., 1, step="empty directory")}
    assert options == {"nr_blocks": "1", "nr_inodes": "1"}
    for path in ("/proc/acpi", "/sys/firmware"):
        kind = listing.one("CHECK", ..., 0o40000, step=f"mask {path}")
        assert kind.errnos == (errno.ENOTSUP,)
        tree, skip, file = listing.all[kind.index + 1 : kind.index + 4]
        assert (tree.name, tree.args[0].number, tree.args[2]) == ("open_tree", empty.dst.number, TREE)
        assert (skip.name, skip.target) == ("GOTO", file.index + 1)
        assert (file.name, file.index, file.dst.number) == ("open_tree", kind.target, tree.dst.number)


def test_the_empty_tmpfs_is_attached_before_it_is_cloned() -> None:
    """open_tree(2): before Linux 6.15 a detached mount cannot be; the root goes on top of it, so the pivot leaves it."""
    listing = linux(maskedPaths=["/proc/acpi"])
    empty = listing.one("fsmount", step="empty directory")
    below, root = listing.find("move_mount", ..., "", -100, ".")
    assert below.args[0].number == empty.dst.number
    in_order(empty, below, root, listing.one("open_tree", empty.dst, "", TREE), listing.one("pivot_root"))


def test_no_masks_need_no_null_device() -> None:
    assert not made().find("openat", -100, "/dev/null")
    assert not made().find(step="empty directory")


def test_readonly_path_is_a_clone_that_was_never_writable() -> None:
    """V33: attributes on the clone, then attached to the fd it was cloned from."""
    listing = linux(readonlyPaths=["/proc/sys"])
    found = listing.one("WALK", ..., ..., EXISTING, step="make /proc/sys read-only")
    tree = listing.one("open_tree", found.dst, "", TREE | 0x8000)
    set_ = listing.one("mount_setattr", step="make /proc/sys read-only")
    move = listing.one("move_mount", step="make /proc/sys read-only")
    assert (set_.args[0].number, set_.args[2], set_.words(3)) == (tree.dst.number, 0x1000 | 0x8000, [1, 0, 0, 0])
    assert (move.args[0].number, move.args[2].number) == (tree.dst.number, found.dst.number)
    in_order(found, tree, set_, move)


# --- the private procfs


def test_procfs_is_private() -> None:
    """CVE-2025-52881: a new instance that nothing of the image can cover."""
    listing = linux(sysctl={"kernel.sem": "1"})
    mounted = listing.one("fsmount", step="private procfs")
    assert mounted.args[2] == 2 | 4 | 8
    opened = listing.one("openat2", ..., "sys/kernel/sem")
    assert opened.args[0].number == mounted.dst.number
    assert opened.words(2)[2] == 0x01 | 0x02 | 0x08  # NO_XDEV NO_MAGICLINKS BENEATH
    write = listing.one("WRITE", ..., "1", 1)
    assert write.args[0].number == opened.dst.number


def test_refused_procfs_is_the_host_s_checked() -> None:
    """In a user namespace the kernel may refuse a new one; security 5.6: magic 0x9fa0, root inode 1."""
    spec = small_spec()
    map_users(spec)
    spec["linux"]["sysctl"] = {"kernel.sem": "1"}
    listing = made(spec)
    refused = [op for op in listing.find(step="private procfs") if op.errnos == (errno.EPERM,)]
    assert [op.name for op in refused] == ["fsopen", "fsconfig", "fsmount"]
    host = listing.one("openat", -100, "/proc")
    check = listing.one("CHECK", host.dst, 0o40000, 0, PROC_MAGIC, 1)
    assert {op.target for op in refused} == {host.index}
    assert host.dst.number == listing.one("fsmount", step="private").dst.number
    in_order(host, check, listing.one("pivot_root"))


def test_procfs_is_made_where_it_is_needed_only() -> None:
    assert not made().find(step="private procfs")


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "sys/net/ipv4/ip_forward"),
        ("net.ipv4.conf.eth0/1.forwarding", "sys/net/ipv4/conf/eth0.1/forwarding"),
        ("net/ipv4/conf/eth0.1/forwarding", "sys/net/ipv4/conf/eth0.1/forwarding"),
    ],
)
def test_sysctl(key: str, path: str) -> None:
    """sysctl(8): the first separator tells."""
    listing = linux(sysctl={key: "1"})
    opened = listing.one("openat2", ..., path)
    assert opened.pointer == "/linux/sysctl/" + key.replace("/", "~1")
    assert errno.ENOENT in opened.hints


# --- AppArmor


def labelled() -> Listing:
    spec = small_spec()
    spec["process"]["apparmorProfile"] = "box"
    return made(spec)


def test_profile_is_asked_for_at_the_next_execve() -> None:
    """aa_change_onexec(2): `exec <profile>` into attr/apparmor/exec, or the older name."""
    listing = labelled()
    new = listing.one("openat2", ..., "thread-self/attr/apparmor/exec")
    old = listing.one("openat2", ..., "thread-self/attr/exec")
    assert new.errnos == (errno.ENOENT,) and new.target == old.index
    assert new.dst.number == old.dst.number
    assert listing.one("WRITE", ..., "exec box", 8).args[0].number == new.dst.number
    assert "not loaded" in old.hints[errno.ENOENT]


def test_profile_is_set_by_the_process_that_becomes_the_program() -> None:
    """The attribute is of the thread: thread-self in the process after the last fork."""
    spec = small_spec()
    spec["process"]["apparmorProfile"] = "box"
    join(spec, "pid", "/run/pid")
    listing = made(spec)
    assert listing.one("WRITE", ..., "exec box").process == "skerry:3:init"
    in_order(listing.find("clone3")[-1], listing.one("WRITE", ..., "exec box"))
