"""skerry run: create, start, wait, delete.

Runs in: run (hot).   Imports: cli.call, cli.creation, cli.options; cli.foreground unless detached.
Source:  runc run; lifecycle.md 92, 93, 132.
Never:   leaves a container that failed on its way to running.
"""

from skerry.cli.call import notify_socket
from skerry.cli.creation import OPTIONS, create_container
from skerry.cli.options import Option, Verb
from skerry.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call
    from skerry.container import Container
    from skerry.readiness import Listener

VERB = Verb(
    "create a container, run it, and delete it at its end",
    options=(
        *OPTIONS,
        Option("detach", "return when the program runs", letter="d", kind="flag"),
        Option("keep", "keep the container when it has ended", kind="flag"),
        Option("no-subreaper", "accepted for runc's sake: skerry needs no subreaper", kind="flag"),
    ),
    about="In the foreground the exit code is the program's, or 128 and the number of the signal "
    "that killed it. Signals are passed on to the program. If the container has a terminal, it is "
    "joined to this one.",
    example="skerry run --bundle /srv/hello hello",
)


def main(call: "Call") -> int:
    if call.options["detach"]:
        return _detached(call)
    from skerry.cli.foreground import Signals, follow
    from skerry.cli.terminal import Terminal

    with Signals() as signals:
        container = create_container(call, detach=False)
        try:
            signals.forward()
            terminal = Terminal(container.console_fd) if container.console_fd >= 0 else None
            listener = _listener(container)
            container.start()
            code = follow(container, signals, terminal, listener)
        except BaseException:
            _delete(call, container, force=True)
            raise
        if not call.options["keep"]:
            _delete(call, container, force=False)
    return code


def _listener(container: "Container") -> "Listener | None":
    """Who waits for the program to be ready while it is followed. The manager's main process is ours: it ends with
    the program's code, and signals to it are passed on."""
    address = notify_socket()
    if not address:
        return None
    import posix

    from skerry.readiness import listen

    return listen(container, address, posix.getpid())


def _detached(call: "Call") -> int:
    container = create_container(call, detach=True)
    try:
        container.start(notify_socket=notify_socket())
    except BaseException:
        _delete(call, container, force=True)
        raise
    return 0


def _delete(call: "Call", container: "Container", *, force: bool) -> None:
    """Delete, and only warn if that fails: the program's code, or its error, is the answer.

    What is left stays written down for `skerry delete` (lifecycle 49, 92).
    """
    try:
        container.delete(force=force)
    except Error as error:
        call.log.warning(f"cannot delete container {container.id}: {error}")
