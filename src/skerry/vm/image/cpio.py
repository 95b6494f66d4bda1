"""Writes initramfs archives: the kernel's `newc` cpio, the same bytes for the same content.

Runs in: skerry image build.   Imports: posixpath, stat.
Source:  Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
Never:   records a time, an owner or a number of the host's file system.
"""

import posixpath
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

_MAGIC = "070701"
_TRAILER = "TRAILER!!!"
_ALIGN = 4


class Tree:
    """What goes into the archive: path -> entry; parents come by themselves.

    A path is as the guest sees it, `/usr/bin/python3`. What is added twice is the last one.
    """

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        # path without the first slash -> (mode, content, rdev)
        self._entries: dict[str, tuple[int, bytes, tuple[int, int]]] = {}

    def file(self, path: str, content: bytes, *, executable: bool = False) -> None:
        self._add(path, stat.S_IFREG | (0o755 if executable else 0o644), content)

    def directory(self, path: str, mode: int = 0o755) -> None:
        self._add(path, stat.S_IFDIR | mode)

    def link(self, path: str, target: str) -> None:
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, path: str, major: int, minor: int, mode: int) -> None:
        self._add(path, stat.S_IFCHR | mode, rdev=(major, minor))

    def _add(
        self, path: str, mode: int, content: bytes = b"", rdev: "tuple[int, int]" = (0, 0)
    ) -> None:
        name = posixpath.normpath(path).lstrip("/")
        self._entries[name] = (mode, content, rdev)
        parent = posixpath.dirname(name)
        if parent and parent not in self._entries:
            self.directory(parent)

    def paths(self) -> "list[str]":
        return [f"/{name}" for name in sorted(self._entries)]

    def write(self, out: "BinaryIO") -> int:
        """Write the archive; its size in bytes. A directory sorts before what is in it."""
        size = 0
        for number, name in enumerate(sorted(self._entries), start=1):
            mode, content, rdev = self._entries[name]
            size += out.write(_entry(number, name, mode, content, rdev))
        return size + out.write(_entry(0, _TRAILER, 0, b"", (0, 0)))


def _entry(number: int, name: str, mode: int, content: bytes, rdev: "tuple[int, int]") -> bytes:
    """Header of 13 hexadecimal numbers, name, content, each filled up to four bytes."""
    raw = name.encode() + b"\0"
    # inode, mode, uid, gid, links, time, size, device of the file (2), device it is (2), name, check
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, 0, 0, links, 0, len(content), 0, 0, *rdev, len(raw), 0)
    header = (_MAGIC + "".join(f"{field:08X}" for field in fields)).encode()
    return _padded(header + raw) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGN)
