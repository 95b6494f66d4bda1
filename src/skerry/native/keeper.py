"""Keep open files beyond the life of whoever opened them.

Runs in: template builder.   Imports: posix; linux, native, plan.keep.
Source:  docs/vm.md "Templates"; pidfd_getfd(2).
Never:   names a file: what is kept is fetched from the keeper's process, by number.
"""

import posix

from skerry import timeouts
from skerry.errors import EngineError
from skerry.linux import libc, process
from skerry.native import facts
from skerry.native.dialogue import Dialogue
from skerry.native.launch import launch_aside
from skerry.plan import keep as recipe
from skerry.plan.request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def keep(files: "list[tuple[int, str]]", record: "Callable[[int, int], None]") -> None:
    """Start a keeper of the files.

    Shape   `files` is (fd here, what it is), in the order in which `fetch` counts them; `record(pid, start time)` puts
            the keeper on record: until it returns the keeper ends with us.
    """
    r = Request(facts.machine(), "keeper", {}, None)
    r.preserve = len(files)
    fds = {number: fd for number, (fd, _) in enumerate(files, recipe.FIRST_FD)}
    plan = recipe.build(r, [what for _, what in files])
    launched = launch_aside(plan, r, fds, what="keep files open")
    dialogue = Dialogue(launched, r, None)
    try:
        dialogue.run()
        record(launched.pid, launched.start_time)
        dialogue.finish()
    except BaseException:
        dialogue.abort()
        raise
    launched.conversation.close()
    posix.close(launched.pidfd)


def fetch(pid: int, start_time: int, count: int) -> "list[int]":
    """The files of a keeper, as fds of ours.

    Errors  EngineError if it is gone; KernelError if they cannot be had.
    Owns    the caller closes them.
    """
    pidfd = process.open_pidfd(pid, start_time)
    if pidfd is None:
        raise EngineError("the process that kept it is gone")
    fds: list[int] = []
    try:
        for number in range(count):
            fds.append(libc.pidfd_getfd(pidfd, recipe.FIRST_FD + number))
    except BaseException:
        for fd in fds:
            posix.close(fd)
        raise
    finally:
        posix.close(pidfd)
    return fds


def end(pid: int, start_time: int) -> None:
    """Let the files go; done already is no error."""
    pidfd = process.open_pidfd(pid, start_time)
    if pidfd is None:
        return
    try:
        process.send_signal(pidfd, 15)
        process.wait_exit(pidfd, timeouts.seconds("KILL"))
    finally:
        posix.close(pidfd)
