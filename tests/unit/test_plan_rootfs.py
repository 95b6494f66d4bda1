"""The root: held by fd, put in place, pivoted into (decisions 16, 17; security 5.4, 5.9)."""

import pytest
from support.plans import Listing, in_order, join, made, small_spec

from skerry.errors import SpecError
from skerry.plan import rootfs

O_PATH, O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW = 0o10000000, 0o2000000, 0o200000, 0o400000
CLONE, CLOEXEC, EMPTY_PATH, RECURSIVE = 1, 0o2000000, 0x1000, 0x8000
UNBINDABLE, PRIVATE, SLAVE, SHARED = 1 << 17, 1 << 18, 1 << 19, 1 << 20
WORDS = {"shared": SHARED, "slave": SLAVE, "private": PRIVATE, "unbindable": UNBINDABLE}


def with_propagation(word: str, **facts: object) -> Listing:
    spec = small_spec()
    if word:
        spec["linux"]["rootfsPropagation"] = word
    return made(spec, **facts)


def cut(listing: Listing) -> list:
    """What is done to `/` before the rootfs is attached."""
    return [(op.args[1], op.args[2], op.words(3)[2]) for op in listing.find("mount_setattr", step="cut mount propagation")]


def test_root_is_opened_once_and_never_through_a_link() -> None:
    listing = made()
    opened = listing.one("openat", -100, "/bundle/rootfs")
    assert opened.args[2] == O_PATH | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW
    assert not [op for op in listing if op.index > opened.index and "/bundle/rootfs" in op.args]


def test_directory_flags_of_the_other_machine() -> None:
    """asm/fcntl.h of arm64."""
    from support.plans import request

    from skerry.plan import create

    r = request()
    r.machine = "aarch64"
    opened = Listing(create.build(r)).one("openat", -100, "/bundle/rootfs")
    assert opened.args[2] == O_PATH | O_CLOEXEC | 0o40000 | 0o100000


def test_tree_is_cloned_on_the_host_with_what_is_mounted_in_it() -> None:
    """decisions 16; V12: we stand in it, and its fd is closed."""
    listing = made()
    opened = listing.one("openat", -100, "/bundle/rootfs")
    tree = listing.one("open_tree", opened.dst, "", CLONE | CLOEXEC | EMPTY_PATH | RECURSIVE)
    stand = listing.one("fchdir", opened.dst, step="open rootfs")
    in_order(opened, tree, stand, listing.writes_through(opened, "close")[0], listing.find("clone3")[0])
    assert {op.process for op in (opened, tree, stand)} == {"skerry:1:outer"}


@pytest.mark.parametrize(("word", "wanted"), [("", SLAVE), ("private", SLAVE), ("shared", PRIVATE), ("rshared", PRIVATE)])
def test_propagation_of_the_tree(word: str, wanted: int) -> None:
    """A slave keeps rslave volumes alive; pivot_root(2) refuses a shared root."""
    tree = with_propagation(word).find("mount_setattr", step="open rootfs")[0]
    assert tree.words(3) == [0, 0, wanted, 0]
    assert bool(tree.args[2] & RECURSIVE) == (wanted == SLAVE)


@pytest.mark.parametrize("word", ["", *WORDS, *("r" + word for word in WORDS)])
def test_propagation_to_the_host_is_cut(word: str) -> None:
    """decisions 17, V22: all of it, always; an unmount that travelled would be of the host's own mounts."""
    assert cut(with_propagation(word)) == [("/", RECURSIVE, SLAVE)]


def test_root_is_attached_where_we_stand_and_then_stood_in() -> None:
    listing = made()
    move = listing.one("move_mount", ..., "", -100, ".")
    assert move.args[4] == 4  # MOVE_MOUNT_F_EMPTY_PATH
    stand = listing.one("fchdir", move.args[0], step="mount the rootfs")
    in_order(listing.find("mount_setattr", step="cut")[0], move, stand)
    assert not listing.find("chdir", step="mount the rootfs")


def test_joined_mount_namespace_has_us_at_its_root() -> None:
    """setns(2): joining a mount namespace moves root and cwd."""
    spec = small_spec()
    join(spec, "mount", "/run/mnt")
    listing = made(spec)
    in_order(listing.one("setns"), listing.one("chdir", "/bundle/rootfs"), listing.one("move_mount", ..., "", -100, "."))


def test_pivot() -> None:
    listing = made()
    assert [op.name for op in listing.find(step="pivot into")] == [
        "openat", "fchdir", "pivot_root", "fchdir", "mount_setattr", "umount2", "close", "chdir",
    ]  # fmt: skip
    old = listing.one("openat", -100, "/", step="pivot")
    tree = listing.one("move_mount", ..., "", -100, ".").args[0]
    first, second = listing.find("fchdir", step="pivot")
    assert (first.args[0].number, second.args[0].number) == (tree.number, old.dst.number)


@pytest.mark.parametrize("word", ["shared", "rslave", "unbindable"])
def test_propagation_of_the_new_root(word: str) -> None:
    """config-linux.md "Rootfs Mount Propagation"."""
    op = with_propagation(word).one("mount_setattr", step="set the propagation")
    assert op.args[:3] == [-100, "/", RECURSIVE if word == "rslave" else 0]
    assert op.words(3)[2] == WORDS.get(word, SLAVE)


def test_new_root_is_left_alone_without_a_wish() -> None:
    assert not made().find(step="set the propagation")


def test_read_only_root() -> None:
    """config.md: MUST be read-only; the root alone, not what is mounted in it."""
    spec = small_spec()
    spec["root"]["readonly"] = True
    op = made(spec).one("mount_setattr", step="read-only")
    assert op.words(3) == [1, 0, 0, 0]
    assert op.args[2] == EMPTY_PATH
    assert not made().find(step="rootfs read-only")


def test_without_a_pivot_no_whole_proc_or_sysfs_stays() -> None:
    """V22: below the new root a full one would let a container mount an unmasked one."""
    listing = made(no_pivot=True, full_mounts=["/proc", "/sys"])
    assert not listing.find("pivot_root")
    for path in ("/proc", "/sys"):
        unmount = listing.one("umount2", path, 2)
        cover = listing.one("mount", "tmpfs", path, "tmpfs")
        assert unmount.errnos == (22, 1)  # EINVAL, EPERM: locked in a user namespace, so covered
        assert unmount.target == cover.index
        in_order(unmount, cover, listing.one("chroot", "."))
    move = listing.one("move_mount", ..., "", -100, "/")
    in_order(move, listing.one("chroot", "."), listing.find("chdir", "/")[0])


# --- layers

LAYERS = ["/lib/layers/top", "/lib/layers/base", "/lib/scratch"]


def test_layers_are_an_overlay_in_a_namespace_of_the_first_process() -> None:
    """lifecycle 36: nothing is mounted that the host could see."""
    listing = made(layers=LAYERS)
    mount = listing.one("mount", "overlay")
    assert mount.args == [
        "overlay", "/bundle/rootfs", "overlay", 0,
        "lowerdir=layers/top:layers/base,upperdir=scratch/upper,workdir=scratch/work",
    ]  # fmt: skip
    slave = listing.one("mount_setattr", -100, "/", RECURSIVE, step="overlay")
    assert slave.words(3)[2] == SLAVE
    in_order(
        listing.one("unshare", 0x20000),
        slave,
        listing.one("chdir", "/lib/"),
        mount,
        listing.one("openat", -100, "/bundle/rootfs"),
        listing.find("clone3")[0],
    )


def test_bind_sources_are_taken_before_that_namespace() -> None:
    spec = small_spec()
    spec["mounts"].append({"destination": "/x", "type": "bind", "source": "/s", "options": ["bind"]})
    listing = made(spec, layers=LAYERS, sources={2: ("/s", True)})
    in_order(listing.one("open_tree", -100, "/s"), listing.one("unshare", 0x20000))


@pytest.mark.parametrize(
    ("layers", "lowerdir"),
    [
        (["/a:b/l", "/a:b/s"], "l"),
        (["/x/l,1", "/x/s"], r"l\,1"),
        (["/x/l:1", "/x/s"], r"l\:1"),
        (["/x/l\\1", "/x/s"], r"l\\1"),
        (["/x", "/x/s"], "x"),
    ],
)
def test_names_that_overlayfs_would_take_apart(layers: list[str], lowerdir: str) -> None:
    """overlayfs.rst: colons and commas are escaped by a backslash."""
    options = made(layers=layers).one("mount", "overlay").args[4]
    assert options.startswith(f"lowerdir={lowerdir},upperdir=")


def test_options_longer_than_a_page() -> None:
    """mount(2) drops the rest without a word."""
    layers = [f"/l/{n:02}{'x' * 200}" for n in range(25)]
    with pytest.raises(SpecError) as caught:
        made(layers=layers)
    assert caught.value.pointer == "/annotations/run.skerry.layers"


@pytest.mark.parametrize(
    ("paths", "common"),
    [(["/a/b", "/a/c"], "/a/"), (["/a", "/b"], "/"), (["/a/bc", "/a/bd"], "/a/"), (["/a", "/a/b"], "/"), (["/x/y"], "/x/")],
)
def test_common_directory(paths: list[str], common: str) -> None:
    assert rootfs._common_directory(paths) == common
