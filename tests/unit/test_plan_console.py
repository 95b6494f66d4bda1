"""The terminal (V15, V28; decisions 6)."""

import errno

from support.plans import Listing, exec_request, in_order, made, small_spec

from skerry.plan import join

DEVPTS_MAGIC = 0x1CD1
O_RDWR, O_NOCTTY, O_CLOEXEC, O_NOFOLLOW = 2, 0o400, 0o2000000, 0o400000
TIOCSPTLCK, TIOCGPTPEER, TIOCSWINSZ, TIOCSCTTY = 0x40045431, 0x5441, 0x5414, 0x540E
FD = 5


def terminal(uid: int = 1000, **process: object) -> Listing:
    spec = small_spec()
    spec["process"].update(terminal=True, user={"uid": uid, "gid": 0}, **process)
    return made(spec, console=True)


def test_ptmx_is_that_of_the_container_s_devpts() -> None:
    """CVE-2025-52565: the root of a devpts (its inode is 1), and 5:2 on it."""
    listing = terminal()
    pts = listing.one("WALK", ..., "/dev/pts", 1 | 8)
    directory = listing.one("CHECK", pts.dst, 0o40000, 0, DEVPTS_MAGIC, 1)
    master = listing.one("openat", pts.dst, "ptmx")
    device = listing.one("CHECK", master.dst, 0o20000, 0x502, DEVPTS_MAGIC)
    assert master.args[2] == O_RDWR | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW
    in_order(directory, master, device, listing.one("ioctl", ..., TIOCSPTLCK))
    assert errno.ENOENT in pts.hints


def test_slave_comes_from_the_master_not_from_a_path() -> None:
    """ioctl_tty(2) TIOCGPTPEER; unlocked first."""
    listing = terminal()
    unlock, peer = listing.one("ioctl", ..., TIOCSPTLCK), listing.one("ioctl", ..., TIOCGPTPEER)
    assert unlock.args[2] == bytes(4) or unlock.args[2] == ""
    assert peer.args[2] == O_RDWR | O_NOCTTY | O_CLOEXEC
    in_order(unlock, peer)


def test_master_is_handed_out_and_closed() -> None:
    """V36: who keeps it reads what the program writes."""
    listing = terminal()
    master = listing.one("openat", ..., "ptmx")
    send = listing.one("SEND", FD, 0)
    assert send.args[2].number == master.dst.number
    in_order(send, listing.writes_through(master, "close")[0])


def test_slave_becomes_standard_input_and_output() -> None:
    listing = terminal()
    peer = listing.one("ioctl", ..., TIOCGPTPEER)
    assert [op.args[1:] for op in listing.find("dup3", peer.dst)] == [[0, 0], [1, 0], [2, 0]]
    in_order(listing.find("dup3", peer.dst)[-1], listing.writes_through(peer, "close")[0])


def test_terminal_is_the_user_s() -> None:
    """decisions 23: the gid is left alone."""
    listing = terminal(1000)
    peer = listing.one("ioctl", ..., TIOCGPTPEER)
    owner = listing.one("fchown", peer.dst)
    assert owner.args[1:] == [1000, 0xFFFFFFFF]
    in_order(owner, listing.one("setresuid"))


def test_size() -> None:
    """struct winsize: rows, columns."""
    size = terminal(consoleSize={"height": 25, "width": 80}).one("ioctl", ..., TIOCSWINSZ)
    assert size.args[2] == bytes([25, 0, 80, 0, 0, 0, 0, 0])
    assert not terminal().find("ioctl", ..., TIOCSWINSZ)


def test_dev_console_is_bound_on_a_file_that_is_no_link() -> None:
    """CVE-2026-88264."""
    listing = terminal()
    peer = listing.one("ioctl", ..., TIOCGPTPEER)
    tree = listing.one("open_tree", peer.dst, "")
    target = listing.one("WALK", ..., "/dev/console", 2 | 16, 0o600)
    move = listing.one("move_mount", step="bind the terminal")
    assert (move.args[0].number, move.args[2].number) == (tree.dst.number, target.dst.number)


def test_session_and_controlling_terminal() -> None:
    """decisions 6."""
    listing = terminal()
    in_order(listing.one("setsid"), listing.one("ioctl", 0, TIOCSCTTY, 0))
    assert made().one("setsid") and not made().find("ioctl", 0, TIOCSCTTY)


def test_exec_opens_one_in_the_container_and_binds_nothing() -> None:
    spec = small_spec()
    process = {**spec["process"], "terminal": True}
    listing = Listing(join.build(exec_request(process, spec, console=True)))
    in_order(listing.find("clone3")[-1], listing.one("openat", ..., "ptmx"), listing.one("setsid"))
    assert not listing.find("move_mount")
    assert listing.one("openat", ..., "ptmx").pointer == "/terminal"
