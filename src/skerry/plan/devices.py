"""/dev: default device nodes and links, the spec's devices.

Runs in: create (hot); pure.   Imports: linux.abi, plan.
Source:  runtime-spec config-linux.md "Default Devices", "Devices", runtime-linux.md "Dev symbolic links".
Never:   opens a device of the image; nodes are made on a directory fd below the root (CVE-2026-41579).
"""

from errno import EEXIST, ENOENT, ENOTSUP, EPERM

from skerry.linux import abi
from skerry.plan import ops
from skerry.plan.build import Plan, Reg
from skerry.plan.mounts import device_binds_dev
from skerry.plan.request import Request
from skerry.plan.rootfs import attach

TYPES = {"c": abi.S_IFCHR, "u": abi.S_IFCHR, "b": abi.S_IFBLK, "p": abi.S_IFIFO}
DEFAULT_DEVICES = {
    "/dev/null": (1, 3),
    "/dev/zero": (1, 5),
    "/dev/full": (1, 7),
    "/dev/random": (1, 8),
    "/dev/urandom": (1, 9),
    "/dev/tty": (5, 0),
}
_HINTS = {EPERM: "needs CAP_MKNOD", ENOTSUP: "something else is there"}
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}


class Device:
    """A node to make: `pointer` is empty for a default one."""

    __slots__ = ("path", "kind", "rdev", "mode", "uid", "gid", "pointer", "tree")

    def __init__(
        self, path: str, kind: int, rdev: int, mode: int, uid: int, gid: int, pointer: str
    ) -> None:
        self.path = path
        self.kind = kind
        self.rdev = rdev
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.pointer = pointer
        self.tree: Reg | None = None

    @property
    def directory(self) -> str:
        return self.path[: self.path.rindex("/")] or "/"

    @property
    def name(self) -> str:
        return self.path[self.path.rindex("/") + 1 :]


def device_number(major: int, minor: int) -> int:
    """The kernel's dev_t as system calls take it (new_encode_dev of linux/kdev_t.h)."""
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def read(r: Request) -> "list[Device]":
    """The defaults, unless the spec names the same path, then the spec's."""
    if device_binds_dev(r):
        return []
    listed: list[Device] = []
    for index, entry in enumerate(r.linux.get("devices") or ()):
        kind = TYPES[entry["type"]]
        rdev = 0
        if kind != abi.S_IFIFO:
            rdev = device_number(entry["major"], entry["minor"])
        mode = entry.get("fileMode", 0o666)
        uid, gid = entry.get("uid", 0), entry.get("gid", 0)
        listed.append(
            Device(entry["path"], kind, rdev, mode & 0o7777, uid, gid, f"/linux/devices/{index}")
        )
    taken = {device.path for device in listed}
    defaults = [
        Device(path, abi.S_IFCHR, device_number(*numbers), 0o666, 0, 0, "")
        for path, numbers in DEFAULT_DEVICES.items()
        if path not in taken
    ]
    return defaults + listed


def take_nodes(p: Plan, r: Request, devices: "list[Device]") -> None:
    """On the host, for a container in a user namespace: it may not make nodes, so the host's are bound."""
    if r.namespace("user") is None:
        return
    for device in devices:
        p.step(f"bind device {device.path}", device.pointer, {ENOTSUP: "the host has another there"})
        flags = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC
        device.tree = p.result("open_tree", abi.AT_FDCWD, device.path, flags)
        p.call("CHECK", device.tree, device.kind, device.rdev, 0, 0)


def make(p: Plan, r: Request, devices: "list[Device]", root: Reg) -> None:
    """Inside: nodes with exact mode and owner, whatever umask there was."""
    directories: dict[str, Reg] = {}
    for device in devices:
        p.step(f"make device {device.path}", device.pointer, _HINTS)
        directory = directories.get(device.directory)
        if directory is None:
            directory = directories[device.directory] = p.result(
                "WALK", root, device.directory, ops.WALK_DIRECTORY, 0o755
            )
        if device.tree is not None:
            target = p.result(
                "WALK", directory, device.name, ops.WALK_FILE | ops.WALK_NOFOLLOW, 0o600
            )
            attach(p, device.tree, target)
            p.close(target)
            p.close(device.tree)
            continue
        _make_node(p, device, directory)
    for directory in directories.values():
        p.close(directory)
    if not device_binds_dev(r):
        _make_links(p, r, root)


def _make_node(p: Plan, device: Device, directory: Reg) -> None:
    exists, done = p.mark(), p.mark()
    p.call(
        "mknodat",
        directory,
        device.name,
        device.kind | device.mode,
        device.rdev,
        jump=(EEXIST,),
        to=exists,
    )
    if device.uid or device.gid:
        p.call("fchownat", directory, device.name, device.uid, device.gid, abi.AT_SYMLINK_NOFOLLOW)
        p.call("fchmodat", directory, device.name, device.mode)  # chown drops the set-id bits
    p.goto(done)
    p.place(exists)
    # What the image or a mount left there must be this very device.
    flags = ops.WALK_EXISTING | ops.WALK_NOFOLLOW
    found = p.result("WALK", directory, device.name, flags, 0)
    p.call("CHECK", found, device.kind, device.rdev, 0, 0)
    p.close(found)
    p.place(done)


def _make_links(p: Plan, r: Request, root: Reg) -> None:
    p.step("make the links in /dev")
    dev = p.result("WALK", root, "/dev", ops.WALK_DIRECTORY, 0o755)
    links = dict(_LINKS, core="/proc/kcore") if r.kcore else _LINKS
    for name, target in links.items():
        p.call("symlinkat", target, dev, name, ignore=(EEXIST,))
    p.call("unlinkat", dev, "ptmx", 0, ignore=(ENOENT,))
    p.call("symlinkat", "pts/ptmx", dev, "ptmx")
    p.close(dev)
