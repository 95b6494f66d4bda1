"""All modules of the package from one file: an import without looking at directories.

Runs in: every command of an installed skerry (hot).   Imports: marshal, posix, _frozen_importlib.
Source:  docs/decisions/0002-launcher.md has the measurement.
Never:   used in a checkout, where the sources change; never trusted if it is of another interpreter.

The interpreter's own finder costs some 50 us a module: a stat of the directory, one of the file, an open, two reads.
An installed tree is replaced as a whole, so one file can stand for it: the size of the index (u32), the index, code.
The index is, marshalled, the interpreter's version and {name: (is a package, offset, size of the marshalled code)}.
What is not in it is found as usual.
"""

import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec

NAME = "skerry.{tag}.modules"
SIZE_BYTES = 4


class Archive:
    """A finder and loader for sys.meta_path. The file stays open as long as the process lives."""

    __slots__ = ("_base", "_fd", "_root", "_table")

    def __init__(
        self, root: str, fd: int, base: int, table: "dict[str, tuple[bool, int, int]]"
    ) -> None:
        self._root = root
        self._fd = fd
        self._base = base
        self._table = table

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> "ModuleSpec | None":
        entry = self._table.get(name)
        if entry is None:
            return None
        place = f"{self._root}/{name.replace('.', '/')}"
        origin = f"{place}/__init__.py" if entry[0] else f"{place}.py"
        spec = ModuleSpec(name, self, origin=origin, is_package=entry[0])  # type: ignore[arg-type]
        spec.has_location = True
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(place)
        return spec

    def create_module(self, spec: "ModuleSpec") -> None:
        return None

    def exec_module(self, module: object) -> None:
        _, offset, size = self._table[module.__name__]  # type: ignore[attr-defined]
        code = marshal.loads(posix.pread(self._fd, size, self._base + offset))
        exec(code, module.__dict__)


def install(root: str) -> None:
    """Use the archive in `root`, if there is one for this interpreter."""
    path = f"{root}/skerry/{NAME.format(tag=sys.implementation.cache_tag)}"
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except FileNotFoundError:
        return
    size = int.from_bytes(posix.read(fd, SIZE_BYTES), "little")
    version, table = marshal.loads(posix.read(fd, size))
    if version == sys.version:
        sys.meta_path.insert(0, Archive(root, fd, SIZE_BYTES + size, table))
    else:
        posix.close(fd)
