"""The terminal: made in the container's own devpts, its master handed out.

Runs in: create, exec (hot); pure.   Imports: linux.abi, plan.
Source:  pty(7), ioctl_tty(2) TIOCGPTPEER; runc docs/terminals.md for what engines expect.
Never:   opens a terminal by a name (CVE-2025-52565): the slave comes from the master's fd.
"""

from errno import ENOENT, ENOTSUP

from skerry.linux import abi
from skerry.plan import ops
from skerry.plan.build import Plan, Reg
from skerry.plan.request import Request
from skerry.plan.rootfs import attach

_PTMX = 0x502  # 5:2


def open_console(p: Plan, r: Request, root: Reg, *, bind: bool) -> None:
    """Make the terminal, send its master, put its slave on fds 0-2 and (bind) on /dev/console."""
    pointer = f"{r.pointer}/terminal"
    hint = "a terminal needs a devpts mounted on /dev/pts"
    p.step("open a terminal", pointer, {ENOENT: hint, ENOTSUP: hint})
    pts = p.result("WALK", root, "/dev/pts", ops.WALK_DIRECTORY | ops.WALK_EXISTING, 0)
    p.call("CHECK", pts, abi.S_IFDIR, 0, abi.DEVPTS_SUPER_MAGIC, 1)
    nofollow = abi.OPEN_FLAGS[p.machine][1]
    flags = abi.O_RDWR | abi.O_NOCTTY | abi.O_CLOEXEC
    master = p.result("openat", pts, "ptmx", flags | nofollow, 0)
    p.call("CHECK", master, abi.S_IFCHR, _PTMX, abi.DEVPTS_SUPER_MAGIC, 0)
    p.call("ioctl", master, abi.TIOCSPTLCK, p.blob(bytes(4)))
    slave = p.result("ioctl", master, abi.TIOCGPTPEER, flags)
    _set_size(p, r, master)
    uid = ((r.process or {}).get("user") or {}).get("uid", 0)
    p.step("give the terminal to the user", pointer)
    p.call("fchown", slave, uid, -1 & 0xFFFFFFFF)
    p.step("hand out the terminal", pointer)
    p.call("SEND", ops.FD, 0, master)
    if bind:
        _bind(p, root, slave, pointer)
    p.step("take the terminal as standard input and output", pointer)
    for fd in range(3):
        p.call("dup3", slave, fd, 0)
    p.close(slave)
    p.close(master)
    p.close(pts)


def own_session(p: Plan, r: Request) -> None:
    """A session of our own; with a terminal, controlled by it."""
    p.step("start a session")
    p.call("setsid")
    if r.console:
        p.call("ioctl", 0, abi.TIOCSCTTY, 0)


def _set_size(p: Plan, r: Request, master: Reg) -> None:
    size = (r.process or {}).get("consoleSize")
    if not size:
        return
    rows, columns = size.get("height", 0), size.get("width", 0)
    p.step(f"set the size of the terminal to {columns}x{rows}", f"{r.pointer}/consoleSize")
    raw = b"".join(n.to_bytes(2, "little") for n in (rows, columns, 0, 0))
    p.call("ioctl", master, abi.TIOCSWINSZ, p.blob(raw))


def _bind(p: Plan, root: Reg, slave: Reg, pointer: str) -> None:
    """Before anything is masked, and onto a file that is not a link (CVE-2026-88264)."""
    p.step("bind the terminal on /dev/console", pointer)
    flags = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC | abi.AT_EMPTY_PATH
    tree = p.result("open_tree", slave, "", flags)
    target = p.result("WALK", root, "/dev/console", ops.WALK_FILE | ops.WALK_NOFOLLOW, 0o600)
    attach(p, tree, target)
    p.close(target)
    p.close(tree)
