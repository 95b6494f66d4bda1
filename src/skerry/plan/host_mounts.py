"""The recipe for mounts on the host: the root file system that an engine hands over in parts.

Runs in: a task shim's create and delete; pure.   Imports: linux.abi, plan, spec.mount_options.
Source:  mount(2), umount2(2), mount_setattr(2); overlayfs.rst; containerd's mounts (type, source, target, options).
Never:   enters a namespace: these are the host's mounts, made where the caller is.

mount(2) and not fsconfig(2): a lower directory list is one value, and fsconfig takes 255 bytes of that. What does not
fit in mount(2)'s page is written relative to the directory that all layers share.
"""

from skerry.errors import SpecError
from skerry.linux import abi
from skerry.plan import begin, ops
from skerry.plan.build import Plan
from skerry.plan.request import Request
from skerry.spec.mount_options import MountOptions, parse_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PAGE_BYTES = 4095  # and the zero
_MS_BIND = 4096
# MOUNT_ATTR_* -> MS_*; the low four bits are the same (linux/mount.h)
_SAME_BITS = 0xF
_ATTRIBUTES = {
    abi.MOUNT_ATTR_NODIRATIME: 2048,
    abi.MOUNT_ATTR_NOSYMFOLLOW: 256,
}
_ACCESS_TIMES = {abi.MOUNT_ATTR_NOATIME: 1024, abi.MOUNT_ATTR_STRICTATIME: 1 << 24}
_SUPERBLOCK = {"ro": 1, "sync": 16, "mand": 64, "dirsync": 128, "lazytime": 1 << 25}
# options that are a wish to whoever mounts, and are granted to nobody here
_REFUSED = ("loop", "uidmap=", "gidmap=")
_OVERLAY_LISTS = ("lowerdir=", "upperdir=", "workdir=")
# errno of umount2: nothing is mounted there (any more), there is no such directory
_EINVAL, _ENOENT = 22, 2
# mounts of an engine that may lie on one another
_STACK = 16


def build(r: Request, mounts: "list[dict[str, Any]]", target: str) -> Plan:
    """Mount them in their order at or below the target.

    Shape   starts with fds 0-2, plan and conversation; answers READY.
    Errors  SpecError at `/rootfs/<n>`.
    """
    p = _begin(r)
    for number, mount in enumerate(mounts):
        pointer = f"/rootfs/{number}"
        options = _read(mount, pointer)
        place = _place(target, mount["target"], pointer)
        source = mount["source"] or mount["type"]
        p.step(f"mount {mount['type'] or 'bind'} on {place}", pointer)
        if options.bind:
            flags = _MS_BIND | (abi.MS_REC if options.bind == 2 else 0)
            p.call("mount", source, place, 0, flags, 0)
            _set_attributes(p, place, options)
        else:
            data = _shorten(p, ",".join(options.data), pointer)
            p.call("mount", source, place, mount["type"], _flags(options), data or 0)
        for propagation in options.propagation:
            p.call("mount", 0, place, 0, propagation, 0)
    p.call("SEND", ops.READY, 0, -1)
    return p


def build_unmount(r: Request, target: str) -> Plan:
    """Take away whatever is mounted at the target; nothing there is no error."""
    p = _begin(r)
    p.step(f"unmount {target}")
    done = p.mark()
    for _ in range(_STACK):
        flags = abi.MNT_DETACH | abi.UMOUNT_NOFOLLOW
        p.call("umount2", target, flags, jump=(_EINVAL, _ENOENT), to=done)
    p.place(done)
    p.call("SEND", ops.READY, 0, -1)
    return p


def _begin(r: Request) -> Plan:
    p = Plan(r.machine)
    begin.begin(p, r, last_fd=r.conversation_fd, name="skerry:mounts")
    return p


def _read(mount: "dict[str, Any]", pointer: str) -> MountOptions:
    for number, option in enumerate(mount["options"]):
        if option.startswith(_REFUSED):
            raise SpecError(f"{pointer}/options/{number}", f"{option} is not supported")
    return parse_options(mount["options"], f"{pointer}/options", kind=mount["type"])


def _place(target: str, below: str, pointer: str) -> str:
    parts = [part for part in below.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise SpecError(f"{pointer}/target", f"{below} leads out of the root file system")
    return "/".join((target, *parts))


def _flags(options: MountOptions) -> int:
    attributes = options.set_attrs
    flags = attributes & _SAME_BITS
    for bit, number in _ATTRIBUTES.items():
        flags |= number if attributes & bit else 0
    flags |= _ACCESS_TIMES.get(attributes & abi.MOUNT_ATTR_ATIME, 0)
    for word, number in _SUPERBLOCK.items():
        flags |= number if word in options.flags else 0
    return flags


def _set_attributes(p: Plan, place: str, options: MountOptions) -> None:
    """A bind takes none of its own with mount(2)."""
    for scope, set_, clear in (
        (0, options.set_attrs, options.clear_attrs),
        (abi.AT_RECURSIVE, options.recursive_set, options.recursive_clear),
    ):
        if set_ or clear:
            p.call("mount_setattr", abi.AT_FDCWD, place, scope, p.words([set_, clear, 0, 0]), 32)


def _shorten(p: Plan, data: str, pointer: str) -> str:
    """Data that fits in a page: stand in the directory that the layers of an overlay share."""
    if len(data.encode()) <= _PAGE_BYTES:
        return data
    words = data.split(",")
    lists = [n for n, word in enumerate(words) if word.startswith(_OVERLAY_LISTS)]
    paths = [path for n in lists for path in words[n].partition("=")[2].split(":")]
    common = _common(paths)
    for n in lists:
        name, _, value = words[n].partition("=")
        words[n] = f"{name}=" + ":".join(path[len(common) :] for path in value.split(":"))
    short = ",".join(words)
    if not common or len(short.encode()) > _PAGE_BYTES:
        raise SpecError(f"{pointer}/options", f"are longer than {_PAGE_BYTES} bytes")
    p.call("chdir", common)
    return short


def _common(paths: "list[str]") -> str:
    """The directory above all of them, with a slash at its end; "" without one."""
    if not paths or not all(path.startswith("/") for path in paths):
        return ""
    first, last = min(paths), max(paths)
    length = next(
        (n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first)
    )
    return first[: first.rfind("/", 0, length) + 1]
