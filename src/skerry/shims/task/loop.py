"""The shim's loop: that of rpc, where a failed callback is logged and the others go on.

Runs in: the task shim.   Imports: select; rpc.loop.
Source:  poll(2).
Never:   ends because of one container's trouble: it is all of the pod's.
"""

import select

from skerry.rpc import loop as rpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ, WRITE = rpc.READ, rpc.WRITE
ENDED = select.POLLHUP | select.POLLERR | select.POLLNVAL


class Loop(rpc.Loop):
    """`failed` is told what a callback raised."""

    __slots__ = ("_failed",)

    def __init__(self, failed: "Callable[[BaseException], object]") -> None:
        super().__init__()
        self._failed = failed

    def watch(self, fd: int, events: int, callback: "Callable[[int], object]") -> None:
        def guarded(ready: int) -> None:
            self._guard(lambda: callback(ready))

        super().watch(fd, events, guarded)

    def call_later(self, seconds: float, callback: "Callable[[], object]") -> int:
        return super().call_later(seconds, lambda: self._guard(callback))

    def soon(self, callback: "Callable[[], object]") -> None:
        """After what is at work now."""
        self._ready.append(lambda: self._guard(callback))

    def _guard(self, callback: "Callable[[], object]") -> None:
        try:
            callback()
        except Exception as error:
            self._failed(error)
