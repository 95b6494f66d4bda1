"""One loop on poll: descriptors, timers, and nothing that waits elsewhere.

Runs in: resident processes.   Imports: posix, select, time.
Source:  poll(2).
Never:   lets the failure of one callback end the process, or runs two callbacks at once.

A callback gets the events of its descriptor. What it raises goes to `failed`; the loop goes on. Descriptors are borrowed:
who closes one unwatches it first.
"""

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

IN, OUT, PRI = select.POLLIN, select.POLLOUT, select.POLLPRI
ENDED = select.POLLHUP | select.POLLERR | select.POLLNVAL
_LONGEST_MS = 3_600_000


class Timer:
    """A call that is due; `cancel` it, and it never comes."""

    __slots__ = ("call", "due")

    def __init__(self, due: float, call: "Callable[[], object]") -> None:
        self.due = due
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self.call = None


class Loop:
    """Callbacks by descriptor, timers, and calls for as soon as the ones at work are done."""

    __slots__ = ("_calls", "_failed", "_poller", "_running", "_soon", "_timers")

    def __init__(self, failed: "Callable[[BaseException], object]") -> None:
        self._poller = select.poll()
        self._calls: dict[int, Callable[[int], object]] = {}
        self._timers: list[Timer] = []
        self._soon: list[Callable[[], object]] = []
        self._failed = failed
        self._running = False

    def watch(self, fd: int, events: int, call: "Callable[[int], object]") -> None:
        """Call when one of the events is there, again and again. A second watch replaces the first."""
        self._poller.register(fd, events)
        self._calls[fd] = call

    def unwatch(self, fd: int) -> None:
        if self._calls.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def soon(self, call: "Callable[[], object]") -> None:
        self._soon.append(call)

    def later(self, delay_s: float, call: "Callable[[], object]") -> Timer:
        timer = Timer(time.monotonic() + delay_s, call)
        self._timers.append(timer)
        return timer

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        """Until `stop`."""
        self._running = True
        while self._running:
            self._once()

    def _once(self) -> None:
        for fd, events in self._poller.poll(self._patience_ms()):
            call = self._calls.get(fd)
            # An earlier callback of this round may have unwatched it.
            if call is not None:
                self._guard(call, events)
        now = time.monotonic()
        due = [timer for timer in self._timers if timer.due <= now]
        if due:
            self._timers = [timer for timer in self._timers if timer.due > now]
            for timer in sorted(due, key=lambda timer: timer.due):
                if timer.call is not None:
                    self._guard(timer.call)
        soon, self._soon = self._soon, []
        for each in soon:
            self._guard(each)

    def _patience_ms(self) -> "int | None":
        if self._soon:
            return 0
        self._timers = [timer for timer in self._timers if timer.call is not None]
        if not self._timers:
            return None
        rest = min(timer.due for timer in self._timers) - time.monotonic()
        # Rounded up: a wait that ends early would spin.
        return min(max(0, int(rest * 1000) + 1), _LONGEST_MS)

    def _guard(self, call: "Callable[..., object]", *arguments: object) -> None:
        try:
            call(*arguments)
        except Exception as error:  # the edge of the loop: one caller's trouble is not the others'
            self._failed(error)
