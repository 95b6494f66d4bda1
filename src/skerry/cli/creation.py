"""What create and run share: the options that make a container, and the one call that does.

Runs in: create, run (hot).   Imports: cli.call, cli.options.
Source:  runc create, run; lifecycle.md 18, 33, 34, 37, 131.
Never:   reads the bundle; that is the core's.
"""

from skerry.cli.call import from_here, notify_socket
from skerry.cli.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call
    from skerry.container import Container

STDIO = (0, 1, 2)

OPTIONS = (
    Option(
        "bundle",
        "directory with config.json; default: the current directory",
        letter="b",
        value="dir",
    ),
    Option(
        "console-socket",
        "unix socket that receives the master of the container's terminal",
        value="path",
    ),
    Option("pid-file", "write the pid of the container's init to this file", value="file"),
    Option(
        "pidfd-socket", "unix socket that receives a pidfd of the container's init", value="path"
    ),
    Option(
        "preserve-fds",
        "pass this many descriptors after stdio and $LISTEN_FDS on",
        kind="count",
        value="N",
    ),
    Option("no-pivot", "do not use pivot_root; for a root file system on a ramdisk", kind="flag"),
    Option(
        "no-new-keyring",
        "keep the caller's session keyring instead of making a new one",
        kind="flag",
    ),
    Option("isolation", "process or vm; default: what the bundle asks for", value="kind"),
    Option("host", "run in the virtual machine of this container", value="id"),
    Option("shim-log", "file or unix socket for the log of the container's shim (VM)", value="path"),
    Option("vm-log", "file or unix socket for the log of the VM's own process", value="path"),
    Option("vm-console", "file or unix socket that gets all that the VM's console says", value="path"),
    Option("network-from", "share the network namespace of this container", value="id"),
)


def create_container(call: "Call", *, detach: bool) -> "Container":
    """Make the container that the words and options ask for; its program does not run yet."""
    from skerry.container import Container

    options = call.options
    id = call.id()
    return Container.create(
        call.store(),
        id,
        bundle=from_here(options["bundle"] or "."),
        owner=call.general["owner"],
        isolation=options["isolation"],
        host=options["host"],
        network_from=options["network-from"],
        stdio=STDIO,
        console_socket=from_here(options["console-socket"]),
        detach=detach,
        preserve_fds=options["preserve-fds"],
        pid_file=from_here(options["pid-file"]),
        no_pivot=options["no-pivot"],
        new_keyring=not options["no-new-keyring"],
        pidfd_socket=from_here(options["pidfd-socket"]),
        notify=bool(notify_socket()),
        shim_log=from_here(options["shim-log"]),
        vm_log=from_here(options["vm-log"]),
        vm_console=from_here(options["vm-console"]),
        log=call.log,
    )
