"""The runtime options of a container: which there are, and which of them mean something here.

Runs in: the task shim, its start and delete.   Imports: errors, .messages, .protobuf.
Source:  containerd.runc.v1.Options, runtimeoptions.v1.Options; engines "Options of third-party shims".
Never:   takes a choice of isolation from a pod: the name of the program decides it.

`io.containerd.skerry.v2` is a program of that name, `containerd-shim-skerry-v2`; another isolation is another program
name in ISOLATIONS, so that a RuntimeClass chooses it and nothing that a tenant writes can.
"""

from skerry.errors import UsageError
from skerry.shims.task import messages, protobuf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VM = "vm"
# program -> isolation of the containers it makes
ISOLATIONS = {"containerd-shim-skerry-v2": "process", "containerd-shim-skerry-vm-v2": VM}
# isolation -> runtime type, from which containerd derives the program's name
RUNTIMES = {"process": "io.containerd.skerry.v2", VM: "io.containerd.skerry-vm.v2"}

DEFAULT_ROOT = "/run/containerd/skerry"
FILE = (
    "options.json"  # in the bundle, where the root is not the default: delete is told nothing else
)
RUNC = "containerd.runc.v1.Options"
GENERIC = "runtimeoptions.v1.Options"
# type -> its fields, of those that have some that mean something here
TABLES = {
    RUNC: messages.RUNC_OPTIONS,
    "containerd.linux.runc.CreateOptions": messages.CREATE_OPTIONS,
}


class Options:
    """What counts of them.

    root                  of the store, without the namespace
    io_owner              (uid, gid) of the program's fifos; 0 leaves them
    """

    __slots__ = ("io_owner", "isolation", "no_new_keyring", "no_pivot_root", "root", "shim_cgroup")

    def __init__(self, isolation: str) -> None:
        self.isolation = isolation
        self.root = DEFAULT_ROOT
        self.shim_cgroup = ""
        self.no_pivot_root = self.no_new_keyring = False
        self.io_owner = (0, 0)


def read(message: "dict[str, Any] | None", isolation: str) -> Options:
    """The options in an Any, or the defaults without one.

    Errors  UsageError for a type that is not known here, and for what skerry has not.
    """
    options = Options(isolation)
    if not message or not message["type_url"]:
        return options
    kind = message["type_url"].rpartition("/")[2]
    if kind == GENERIC:
        # A path to a file of ours and its content; there is nothing that would be in one.
        return options
    if kind not in TABLES:
        known = ", ".join((*TABLES, GENERIC))
        raise UsageError(f"cannot use runtime options of type {kind}: known are {known}")
    found = protobuf.decode(TABLES[kind], message["value"])
    if found.get("systemd_cgroup"):
        raise UsageError(
            "cannot use SystemdCgroup: skerry has no systemd cgroup driver",
            hint="set SystemdCgroup = false in the runtime's options",
        )
    options.root = found.get("root") or DEFAULT_ROOT
    options.shim_cgroup = found["shim_cgroup"]
    options.no_pivot_root = found["no_pivot_root"]
    options.no_new_keyring = found["no_new_keyring"]
    options.io_owner = (found["io_uid"], found["io_gid"])
    return options
