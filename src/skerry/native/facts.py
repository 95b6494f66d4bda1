"""Facts of the host that a plan needs: what is looked up before anything is made.

Runs in: create, exec (hot).   Imports: posix, fcntl; linux, native.cgroup, plan.request.
Source:  plan/request.py says what each fact is for.
Never:   changes anything, or looks below a rootfs (that is skerry-init's part, by fd).
"""

import errno
import fcntl
import posix

from skerry.errors import Error, InitError, SpecError, errno_text
from skerry.linux import abi, caps, process, rlimits
from skerry.linux.fd import is_inheritable
from skerry.plan import namespaces
from skerry.plan.program import PASSWD_LIMIT_BYTES
from skerry.plan.request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.native.cgroup.group import Cgroup
    from skerry.native.cgroup.tree import Layout

_S_IFMT, _S_IFDIR, _S_IFLNK = 0o170000, 0o040000, 0o120000
# pipes, fifos, sockets; terminals are character devices that answer TCGETS
_OWNED = (0o010000, 0o140000)
_S_IFCHR = 0o020000
_TCGETS = 0x5401
_NS_GET_NSTYPE = 0xB703
_PASSWD_LINE_BYTES = 4096
OLDEST_KERNEL = (5, 14)


def machine() -> str:
    """The machine's name.

    Errors  Error for one, or a kernel, that skerry is not built for (decisions 15).
    """
    system = posix.uname()
    if system.machine not in abi.MACHINES:
        built_for = " and ".join(abi.MACHINES)
        raise Error(f"cannot run on {system.machine}: skerry is built for {built_for}")
    numbers = system.release.replace("-", ".").split(".")[:2]
    if all(map(str.isdigit, numbers)) and tuple(map(int, numbers)) < OLDEST_KERNEL:
        oldest = ".".join(map(str, OLDEST_KERNEL))
        raise Error(f"cannot run on Linux {system.release}: skerry needs {oldest} or newer")
    return system.machine


def check_rootfs(path: str) -> None:
    """Errors  SpecError at /root/path."""
    try:
        mode = posix.lstat(path).st_mode
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", errno.EINVAL) or errno.EINVAL
        raise SpecError("/root/path", f"cannot open {path}: {errno_text(number)}") from None
    if mode & _S_IFMT == _S_IFLNK:
        raise SpecError("/root/path", f"{path} is a symbolic link, as in runc it must not be")
    if mode & _S_IFMT != _S_IFDIR:
        raise SpecError("/root/path", f"{path} is not a directory")  # nor is a link to one


def bind_paths(spec: "dict[str, Any]", bundle: str) -> "dict[int, str]":
    """The host paths of the binds, absolute, by the index of the mount."""
    found = {}
    for index, entry in enumerate(spec.get("mounts") or ()):
        options = entry.get("options") or ()
        if entry.get("type") == "bind" or "bind" in options or "rbind" in options:
            source = entry.get("source") or ""
            found[index] = source if source.startswith("/") else f"{bundle}/{source}"
    return found


def is_directory(path: str, pointer: str) -> bool:
    """Errors  SpecError at the pointer if nothing is there."""
    try:
        return posix.stat(path).st_mode & _S_IFMT == _S_IFDIR
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", errno.EINVAL) or errno.EINVAL
        raise SpecError(pointer, f"cannot bind {path}: {errno_text(number)}") from None


def stdio_owner(stdio: "tuple[int, int, int]") -> "tuple[int, ...]":
    """Which of 0-2 may be given to the container's user: never a disk file or another device."""
    owned = []
    for number, fd in enumerate(stdio):
        kind = posix.fstat(fd).st_mode & _S_IFMT
        if kind in _OWNED or (kind == _S_IFCHR and _is_terminal(fd)):
            owned.append(number)
    return tuple(owned)


def check_preserved(count: int) -> None:
    """What the caller passes on is inheritable; what we opened on a number it left free is not."""
    for fd in range(3, 3 + count):
        try:
            given = is_inheritable(fd)
        except OSError:
            given = False
        if not given:
            raise Error(f"cannot preserve fd {fd} (of {count} from 3 on): it is not open")


def check_namespaces(r: Request) -> None:
    """What is joined must be a namespace of that type, and not be ours where the container would change it.

    Errors  SpecError at /linux/namespaces/<n>/path.
    """
    for kind, path in namespaces.joined(r).items():
        pointer = f"{namespaces.pointer_of(r, kind)}/path"
        try:
            fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
        except OSError as error:
            raise SpecError(
                pointer, f"cannot open {path}: {errno_text(error.errno or 0)}"
            ) from None
        try:
            if fcntl.ioctl(fd, _NS_GET_NSTYPE) != namespaces.FLAGS[kind]:
                raise SpecError(pointer, f"{path} is not a {kind} namespace")
            found, ours = posix.fstat(fd), posix.stat(f"/proc/self/ns/{namespaces.file_name(kind)}")
        except OSError:
            raise SpecError(pointer, f"{path} is not a {kind} namespace") from None
        finally:
            posix.close(fd)
        if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
            _refuse_ours(r, kind, pointer)


def _refuse_ours(r: Request, kind: str, pointer: str) -> None:
    """The container's root would take the place of the host's, and its name that of the host."""
    if kind == "mount":
        raise SpecError(
            pointer, "is the host's mount namespace, where the host would lose its root"
        )
    for word in ("hostname", "domainname"):
        if kind == "uts" and r.spec.get(word):
            raise SpecError(f"/{word}", "is not allowed in the host's uts namespace")


def check_capabilities(r: Request) -> None:
    """Asked for, but not ours to give: the kernel would say only EPERM."""
    if r.namespace("user") is not None:
        return
    wanted = (r.process or {}).get("capabilities") or {}
    ours = caps.bounding()
    for name in ("permitted", "effective", "inheritable", "ambient"):
        for index, word in enumerate(wanted.get(name) or ()):
            number = caps.CAPS.get(word)
            if number is not None and number <= r.last_cap and not ours >> number & 1:
                pointer = f"{r.pointer}/capabilities/{name}/{index}"
                raise SpecError(pointer, f"{word}: this host does not grant it to skerry")


def limits(process: "dict[str, Any] | None") -> "dict[int, tuple[int, int]]":
    entries = (process or {}).get("rlimits") or ()
    if not entries:
        return {}
    ours = rlimits.own()
    return {number: ours[number] for number in {abi.RLIMITS[entry["type"]] for entry in entries}}


def cgroup_mounts(r: Request, layout: "Layout", cgroup: "Cgroup") -> None:
    """What a mount of type cgroup shows."""
    r.cgroup_unified = cgroup.paths.get("", "")
    if cgroup.kind == "v2":
        r.cgroup_version = 2
        return
    r.cgroup_version = 1
    if not any(entry.get("type") == "cgroup" for entry in r.spec.get("mounts") or ()):
        return
    by_mount: dict[str, list[str]] = {}
    for name, point in layout.controllers.items():
        if point != layout.unified:
            by_mount.setdefault(point, []).append(name)
    for point, names in by_mount.items():
        base = point[point.rindex("/") + 1 :]
        r.cgroup_mounts.append((base, cgroup.paths[names[0]], ",".join(names)))


def own_namespaces_mask(pid: int, pidfd: int) -> "tuple[int, bool]":
    """(CLONE_* mask of the namespaces of `pid` that are not ours, whether `user` is among them).

    Errors  InitError if it has ended: what a dead process has no namespaces of would be run in the host's.
    """
    mask = 0
    for kind, flag in namespaces.FLAGS.items():
        name = namespaces.file_name(kind)
        try:
            theirs = posix.stat(f"/proc/{pid}/ns/{name}")
            ours = posix.stat(f"/proc/self/ns/{name}")
        except OSError:
            continue  # the kernel has no such namespace, or the process is gone
        if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
            mask |= flag
    if process.has_ended(pidfd):
        raise InitError(
            "cannot join the container's namespaces: its init has ended", errno=errno.ESRCH
        )
    return mask, bool(mask & abi.CLONE_NEWUSER)


def full_mounts(rootfs: str) -> "list[str]":
    """Whole proc and sysfs mounts of the host, deepest first, for --no-pivot."""
    from skerry.linux import mountinfo

    points = [
        mount.point
        for mount in mountinfo.read("/proc/self/mountinfo", kinds=("proc", "sysfs"))
        if mount.root == "/" and not mount.point.startswith(f"{rootfs}/")
    ]
    return sorted(points, key=len, reverse=True)


def kcore() -> bool:
    return posix.access("/proc/kcore", posix.F_OK)


def _is_terminal(fd: int) -> bool:
    try:
        fcntl.ioctl(fd, _TCGETS, bytes(64))
    except OSError:
        return False
    return True


def passwd_home(fd: int, uid: int) -> bytes:
    """HOME of a numeric user from a copy of the image's passwd file, b"" if there is none.

    The content is hostile: of at most 1 MiB (the plan copies no more) lines above 4 KiB and lines that do not parse are
    skipped.
    """
    for line in posix.read(fd, PASSWD_LIMIT_BYTES).split(b"\n"):
        fields = line.split(b":")
        if len(line) <= _PASSWD_LINE_BYTES and len(fields) >= 6 and fields[2] == b"%d" % uid:
            return fields[5]
    return b""
