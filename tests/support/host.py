"""Facts about this host, and the kernel calls that Python has no function for."""

import ctypes
import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC = 1, 32, 4096, 16384
MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 18, 1 << 19, 1 << 20
MNT_DETACH = 2
PR_SET_CHILD_SUBREAPER = 36
PR_CAPBSET_READ = 23
CAP_SYS_NICE = 23
CAP_SYS_RESOURCE = 24
CAP_MKNOD = 27

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags))


def join(path: object, kind: int) -> None:
    """Enter a namespace: of this thread alone, where the kind allows that."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(fd, kind))
    finally:
        os.close(fd)


def mount(source: object, target: object, kind: str = "", flags: int = 0, data: str = "") -> None:
    texts = [os.fsencode(str(t)) for t in (source, target, kind, data)]
    _check(_libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]))


def umount(target: object) -> None:
    _check(_libc.umount2(os.fsencode(str(target)), MNT_DETACH))


def prctl(option: int, argument: int) -> int:
    return _check(_libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0))


def has_capability(number: int) -> bool:
    return prctl(PR_CAPBSET_READ, number) == 1


def mountinfo(pid: object = "self") -> list[dict]:
    """Read a mount table.

    Shape   dicts with id, parent, root, point, options (list), tags (list), kind, source, data (list).
    """
    rows = []
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        rows.append(mount_line(line))
    return rows


def mount_line(line: str) -> dict:
    """Take a line of mountinfo apart."""
    left, right = line.split(" - ", 1)
    number, parent, device, root, point, options, *tags = left.split(" ")
    kind, source, data = right.split(" ", 2)
    return {
        "id": number, "parent": parent, "device": device, "root": root, "point": point, "options": options.split(","),
        "tags": tags, "kind": kind, "source": source, "data": data.split(","),
    }  # fmt: skip


def cgroup_mounts() -> dict[str, Path]:
    """Give controller (or `unified`) -> mount point, of those that no other mount covers."""
    found = {}
    for row in mountinfo():
        if row["kind"] not in ("cgroup", "cgroup2") or _device(row["point"]) != row["device"]:
            continue
        if row["kind"] == "cgroup2":
            found["unified"] = Path(row["point"])
        else:
            for word in row["data"]:
                if word not in ("rw", "ro", "none"):
                    found[word.removeprefix("name=")] = Path(row["point"])
    return found


def _device(path: str) -> str:
    try:
        number = os.stat(path).st_dev
    except OSError:
        return ""
    return f"{os.major(number)}:{os.minor(number)}"


def is_v2() -> bool:
    """Whether the host has only the unified hierarchy."""
    return list(cgroup_mounts()) == ["unified"]


def is_hybrid() -> bool:
    mounts = cgroup_mounts()
    return "unified" in mounts and len(mounts) > 1


def cgroup_of(pid: int, controller: str) -> Path:
    """Give the directory of a process's cgroup under one controller."""
    mounts = cgroup_mounts()
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in [n.removeprefix("name=") for n in names.split(",")] or (not names and is_v2()):
            return mounts.get(controller, mounts.get("unified", Path("/nowhere"))) / path.lstrip("/")
    raise LookupError(f"no controller {controller}")


def descendants(pid: int | None = None) -> list[int]:
    """Give every living or dead descendant of a process (ours by default)."""
    found = []
    todo = [pid or os.getpid()]
    while todo:
        parent = todo.pop()
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                words = Path(f"/proc/{parent}/task/{task}/children").read_text().split()
                found += map(int, words)
                todo += map(int, words)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def status_of(pid: object) -> dict[str, str]:
    """Read /proc/<pid>/status."""
    return fields(Path(f"/proc/{pid}/status").read_text())


def fields(text: str) -> dict[str, str]:
    """Read lines of `Key: value`."""
    return {k: v.strip() for k, _, v in (line.partition(":") for line in text.splitlines())}


def wait_exit(pid: int, timeout_s: float = 10) -> None:
    """Wait until a process is dead or a zombie."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not select.select([pidfd], [], [], timeout_s)[0]:
            raise TimeoutError(f"process {pid} still runs after {timeout_s} s")
    finally:
        os.close(pidfd)


def ticks(timeout_s: float = 5) -> Iterator[None]:
    """Pace a loop that must poll, for there is nothing to wait on; TimeoutError at the deadline."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        yield
        select.select([], [], [], 0.01)
    raise TimeoutError(f"nothing happened in {timeout_s} s")


def eventually(question: Callable[[], object], timeout_s: float = 5) -> None:
    """Poll a question until its answer is true."""
    for _ in ticks(timeout_s):
        if question():
            return


def namespaces_of(pid: object) -> dict[str, str]:
    return {
        name: os.readlink(f"/proc/{pid}/ns/{name}")
        for name in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
    }
