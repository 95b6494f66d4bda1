"""Run a program of the host to its end, confined, without stopping the loop.

Runs in: vmshim.   Imports: posix; linux, rpc.loop, vm.confine.
Source:  docs/lifecycle.md 128 (COMMAND).
Never:   waits for it in any other way than by its pidfd.
"""

import posix

from skerry import timeouts
from skerry.errors import EngineError, RpcError
from skerry.linux import process
from skerry.rpc.loop import Loop
from skerry.vm import confine
from skerry.vm.console import Console

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from skerry.plan.helper import Share
    from skerry.rpc.loop import Steps

KILLED_S = 5


def run(
    loop: Loop,
    argv: "Sequence[str]",
    fds: "Sequence[tuple[int, str]]",
    confinement: confine.Confinement,
    *,
    share: "Share | None" = None,
) -> "Steps":
    """Errors  EngineError with the last line of what it said; InitError, KernelError if it did not start."""
    name = argv[0].rpartition("/")[2]
    limit = timeouts.seconds("COMMAND")
    said, said_fd = posix.pipe2(posix.O_CLOEXEC)
    console = Console(loop, said)
    try:
        try:
            running = confine.start(argv, fds, confinement, said_fd=said_fd, share=share)
        finally:
            posix.close(said_fd)
        try:
            yield loop.readable(running.pidfd, limit_s=limit, what=name)
        except RpcError:
            raise EngineError(f"cannot run {name}: no end after {limit} s") from None
        finally:
            process.send_signal(running.pidfd, 9)
            ended = process.wait_exit(running.pidfd, KILLED_S)
            loop.unwatch(running.pidfd)
            posix.close(running.pidfd)
        if ended != (0, 0):
            words = (console.tail(1) or ["no word"])[0]
            status = f"exit status {ended[0]}" if ended else "it does not end"
            raise EngineError(f"cannot run {name}: {words} ({status})")
    finally:
        console.close()
