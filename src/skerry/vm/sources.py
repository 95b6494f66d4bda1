"""What the host has where the spec points to: layers, and the kinds of bind mounts' sources.

Runs in: vmshim.   Imports: posix, stat; errors, native.facts, spec.
Source:  docs/vm.md "Storages"; config.md "Mounts".
Never:   follows what a guest has made: these are paths of the operator.
"""

import posix
import stat

from skerry.errors import SpecError, errno_text
from skerry.native.facts import bind_paths
from skerry.spec.annotations import layer_paths
from skerry.vm.guest_spec import BLOCK, DIRECTORY, FILE, OTHER, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def look(spec: "dict[str, Any]", record: "dict[str, Any]") -> "dict[int, Source]":
    """By the number of the mount.

    Errors  SpecError for a source that is not there.
    """
    found = {}
    for number, path in bind_paths(spec, record["Bundle"]).items():
        try:
            status = posix.stat(path)
        except OSError as error:
            rule = f"{path}: {errno_text(error.errno or 0)}"
            raise SpecError(f"/mounts/{number}/source", rule) from error
        mode = status.st_mode
        kinds = ((FILE, stat.S_ISREG), (DIRECTORY, stat.S_ISDIR), (BLOCK, stat.S_ISBLK))
        kind = next((name for name, test in kinds if test(mode)), OTHER)
        found[number] = Source(path, kind, status.st_size, stat.S_IMODE(mode))
    return found


def layers(spec: "dict[str, Any]", record: "dict[str, Any]") -> "list[str]":
    """As for process isolation: topmost first, the scratch last; empty where root.path counts."""
    return layer_paths(spec.get("annotations") or {}, record["Bundle"])
