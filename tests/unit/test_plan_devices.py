"""/dev: default nodes and links, the spec's devices (config-linux.md "Default Devices"; V14, V17, V26)."""

import errno

import pytest
from support.plans import Listing, in_order, made, map_users, small_spec

from skerry.plan.devices import device_number

S_IFCHR, S_IFBLK, S_IFIFO = 0o20000, 0o60000, 0o10000
DEFAULTS = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


def with_device(**entry: object) -> Listing:
    spec = small_spec()
    spec["linux"]["devices"] = [{"path": "/dev/x", "type": "c", "major": 10, "minor": 229, **entry}]
    return made(spec)


@pytest.mark.parametrize(
    ("major", "minor", "number"), [(1, 3, 0x103), (8, 0, 0x800), (10, 229, 0xAE5), (259, 300, 0x11032C), (4095, 1048575, 0xFFFFFFFF)]
)
def test_device_number(major: int, minor: int, number: int) -> None:
    """new_encode_dev of linux/kdev_t.h: minor's low byte, major, the rest of minor."""
    assert device_number(major, minor) == number


def test_default_devices() -> None:
    """config-linux.md: these, as character devices; decisions: exact modes, the umask is 0."""
    made_ = {op.args[1]: (op.args[2], op.args[3]) for op in made().find("mknodat")}
    assert made_ == {name: (S_IFCHR | 0o666, device_number(*n)) for name, n in DEFAULTS.items()}


def test_nodes_are_made_on_the_directory_s_fd() -> None:
    """V17, V26: /dev of the image may be a link."""
    listing = made()
    walk = listing.one("WALK", ..., "/dev", 1, 0o755, step="/dev/null")
    assert {op.args[0].number for op in listing.find("mknodat")} == {walk.dst.number}


def test_what_is_already_there_must_be_the_device() -> None:
    """security 8: a different file there is refused."""
    listing = made()
    node = listing.one("mknodat", ..., "null")
    assert node.errnos == (errno.EEXIST,)
    found = listing.all[node.target]
    check = listing.all[node.target + 1]
    assert (found.name, found.args[1:]) == ("WALK", ["null", 8 | 16, 0])  # EXISTING, NOFOLLOW
    assert (check.name, check.args[1:]) == ("CHECK", [S_IFCHR, 0x103, 0, 0])
    assert check.fail == 0
    skip = listing.all[node.index + 1]
    assert (skip.name, skip.target) == ("GOTO", check.index + 2)


@pytest.mark.parametrize(
    ("entry", "mode", "number"),
    [
        ({}, S_IFCHR | 0o666, 0xAE5),
        ({"type": "u"}, S_IFCHR | 0o666, 0xAE5),
        ({"type": "b", "fileMode": 0o660}, S_IFBLK | 0o660, 0xAE5),
        ({"type": "p", "fileMode": 0o600}, S_IFIFO | 0o600, 0),
        ({"fileMode": 0o20640}, S_IFCHR | 0o640, 0xAE5),  # podman sends the bits of the type along
    ],
    ids=["default mode", "u", "block", "fifo", "podman"],
)
def test_device_of_the_spec(entry: dict, mode: int, number: int) -> None:
    listing = with_device(**entry)
    assert listing.one("mknodat", ..., "x").args[2:] == [mode, number]
    assert listing.one("mknodat", ..., "x").pointer == "/linux/devices/0"


def test_owner_of_a_device() -> None:
    """chown drops set-id bits, so the mode comes after it."""
    listing = with_device(uid=5, gid=6, fileMode=0o640)
    owner, mode = listing.one("fchownat", ..., "x"), listing.one("fchmodat", ..., "x")
    assert owner.args[2:] == [5, 6, 0x100]  # AT_SYMLINK_NOFOLLOW
    assert mode.args[2] == 0o640
    in_order(listing.one("mknodat", ..., "x"), owner, mode)
    assert not with_device().find("fchownat")


def test_directory_of_a_device_is_made() -> None:
    assert with_device(path="/dev/net/tun").one("WALK", ..., "/dev/net", 1, 0o755)


def test_spec_s_device_replaces_a_default_one() -> None:
    listing = with_device(path="/dev/null", major=1, minor=3, fileMode=0o600)
    assert listing.one("mknodat", ..., "null").args[2] == S_IFCHR | 0o600


def test_user_namespace_binds_the_host_s_nodes() -> None:
    """user_namespaces(7): no nodes can be made there. Taken and checked on the host."""
    spec = small_spec()
    map_users(spec)
    listing = made(spec)
    assert not listing.find("mknodat")
    tree = listing.one("open_tree", -100, "/dev/null")
    check = listing.all[tree.index + 1]
    assert (check.name, check.args[1:]) == ("CHECK", [S_IFCHR, 0x103, 0, 0])
    target = listing.one("WALK", ..., "null")
    assert target.args[2:] == [2 | 16, 0o600]  # FILE, NOFOLLOW
    move = next(op for op in listing.find("move_mount", step="/dev/null"))
    assert (move.args[0].number, move.args[2].number) == (tree.dst.number, target.dst.number)
    in_order(check, listing.find("clone3")[0], target, move)


def test_links() -> None:
    """runtime-linux.md "Dev symbolic links"."""
    links = {op.args[2]: op.args[0] for op in made().find("symlinkat")}
    assert links == {
        "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
        "ptmx": "pts/ptmx",
    }  # fmt: skip
    assert made(kcore=True).one("symlinkat", "/proc/kcore").args[2] == "core"


def test_ptmx_replaces_what_is_there() -> None:
    """V17: by name on the checked fd."""
    listing = made()
    remove, link = listing.one("unlinkat", ..., "ptmx"), listing.one("symlinkat", "pts/ptmx")
    assert remove.errnos == (errno.ENOENT,)
    assert remove.args[0].number == link.args[1].number
    in_order(remove, link)


@pytest.mark.parametrize("entry", [{"type": "bind"}, {"type": "none", "options": ["rbind"]}], ids=["type", "option"])
def test_dev_of_the_host_is_left_alone(entry: dict) -> None:
    """As runc: nothing is made in a /dev that the spec binds."""
    spec = small_spec()
    spec["mounts"][1] = {"destination": "/dev/", "source": "/dev", **entry}
    listing = made(spec, sources={1: ("/dev", True)})
    assert not listing.find("mknodat") and not listing.find("symlinkat")
