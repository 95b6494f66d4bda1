"""The delete action: what is left of a container goes, whatever has become of its shim.

Runs in: containerd-shim-skerry-v2 delete, in the bundle as current directory.   Imports: posix, time; container, .work.
Source:  containerd runtime/v2 README; engines "The binary", "Recovery".
Never:   takes for an error what is gone: it runs after every end of a connection, a good one too.
"""

import posix
import time

from skerry import timeouts
from skerry.container import open_store
from skerry.errors import Error
from skerry.jsonio import loads
from skerry.linux.cgroupfs import read_bytes
from skerry.log import Log
from skerry.shims.task import messages, options, protobuf, work
from skerry.shims.task.address import Address, group
from skerry.shims.task.events import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_KILLED = 137
_DELETE_S = 4  # containerd gives it 5


def delete(flags: "dict[str, Any]", isolation: str, spec: "dict[str, Any]") -> bytes:
    """The DeleteResponse; `spec` is empty where the bundle has none.

    Errors  whatever could not be released.
    """
    timeouts.shorten(_DELETE_S)
    id, namespace = flags["id"], flags["namespace"]
    store = open_store(f"{_root()}/{namespace}")
    facts = {"pid": 0, "exit_status": _KILLED, "exited_at": timestamp(time.time_ns())}
    try:
        pid = store.get(id, "shim")
        facts["pid"] = pid["pid"] if type(pid) is dict else 0
    except (Error, KeyError):
        pass  # it may be gone, or never have got so far
    bundle = posix.getcwd()
    log = Log(2, "text", ("warning",))
    work.delete(store, id, bundle, log, mounted=_is_mounted(f"{bundle}/{work.ROOTFS}"))
    Address(flags["address"], namespace, group(spec, id), isolation).remove()
    return protobuf.encode(messages.DELETED, facts)


def _is_mounted(path: str) -> bool:
    """Mostly nothing is there any more, and to be told so by the kernel's table is the quicker way."""
    text = (
        path.replace("\\", "\\134")
        .replace(" ", "\\040")
        .replace("\t", "\\011")
        .replace("\n", "\\012")
    )
    return f" {text} ".encode("utf-8", "surrogateescape") in read_bytes("/proc/self/mountinfo")


def _root() -> str:
    """Where the containers of this bundle are on record."""
    try:
        fd = posix.open(options.FILE, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW)
    except FileNotFoundError:
        return options.DEFAULT_ROOT
    try:
        kept = loads(posix.read(fd, 1 << 16), what=options.FILE)
    finally:
        posix.close(fd)
    return str(kept["root"]) if type(kept) is dict and kept.get("root") else options.DEFAULT_ROOT
