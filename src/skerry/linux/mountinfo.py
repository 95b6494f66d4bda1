"""The mount table of a process.

Runs in: create (hot).   Imports: linux.cgroupfs.
Source:  proc_pid_mountinfo(5).
Never:   judges a mount; a mount listed here may be hidden below another one.

`36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
"""

from skerry.linux.cgroupfs import read_bytes


class Mount:
    __slots__ = (
        "device",
        "id",
        "kind",
        "options",
        "parent",
        "point",
        "propagation",
        "root",
        "source",
        "super_options",
    )

    def __init__(self, line: bytes) -> None:
        """Read one line without its newline; ValueError or IndexError if it is none."""
        left, _, right = line.partition(b" - ")
        fields = left.split(b" ")
        self.id, self.parent = int(fields[0]), int(fields[1])
        major, minor = fields[2].split(b":")
        self.device = (int(major), int(minor))
        self.root, self.point = _text(fields[3]), _text(fields[4])
        self.options = _text(fields[5]).split(",")
        self.propagation = [_text(word) for word in fields[6:]]
        tail = right.split(b" ")
        self.kind, self.source = _text(tail[0]), _text(tail[1])
        self.super_options = _text(tail[2]).split(",")


def read(path: str = "/proc/self/mountinfo", /, *, kinds: tuple[str, ...] = ()) -> list[Mount]:
    """List the mounts in the order of the kernel; `kinds` keeps these file systems only.

    Lines are filtered before they are parsed: a host of a thousand containers has thousands.
    """
    lines = read_bytes(path).split(b"\n")
    if kinds:
        marks = tuple(f" - {kind} ".encode() for kind in kinds)
        lines = [line for line in lines if any(mark in line for mark in marks)]
    mounts = [Mount(line) for line in lines if line]
    return [mount for mount in mounts if mount.kind in kinds] if kinds else mounts


def _text(field: bytes, /) -> str:
    """Undo the octal escapes of blank, tab, newline, # and backslash."""
    if b"\\" in field:
        head, *rest = field.split(b"\\")
        field = head + b"".join(bytes((int(part[:3], 8),)) + part[3:] for part in rest)
    return field.decode("utf-8", "surrogateescape")
