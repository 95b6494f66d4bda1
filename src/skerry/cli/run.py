"""skerry run: create, start, wait, delete.

Runs in: run (hot).   Imports: cli.creation, cli.options; cli.foreground unless detached.
Source:  runc run; lifecycle.md 92, 93, 132.
Never:   leaves a container that failed on its way to running.
"""

from skerry.cli.creation import OPTIONS, create
from skerry.cli.options import Option, Verb
from skerry.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call

VERB = Verb(
    "create a container, run it, and delete it at its end",
    options=(
        *OPTIONS,
        Option("detach", "return when the program runs", letter="d", kind="flag"),
        Option("keep", "keep the container when it has ended", kind="flag"),
        Option("no-subreaper", "accepted for runc's sake: skerry needs no subreaper", kind="flag"),
    ),
    about="In the foreground the exit code is the program's, or 128 and the number of the signal "
    "that killed it. Signals "
    "are passed on to the program, all but CHLD and URG. If the container has a terminal, it is "
    "joined to this one.",
    example="skerry run --bundle /srv/hello hello",
)


def main(call: "Call") -> int:
    if call.options["detach"]:
        return _detached(call)
    from skerry.cli.foreground import Signals, follow
    from skerry.cli.terminal import Terminal

    with Signals() as signals:
        container = create(call, detach=False)
        try:
            signals.forward()
            terminal = Terminal(container.console_fd) if container.console_fd >= 0 else None
            container.start()
            code = follow(container, signals, terminal)
        except BaseException:
            container.delete(force=True)
            raise
        if not call.options["keep"]:
            try:
                container.delete()
            except Error as error:
                # The program's code is the answer; the container stays for `skerry delete`
                # (lifecycle 92).
                call.log.warning(f"cannot delete container {container.id}: {error}")
    return code


def _detached(call: "Call") -> int:
    container = create(call, detach=True)
    try:
        container.start()
    except BaseException:
        container.delete(force=True)
        raise
    return 0
