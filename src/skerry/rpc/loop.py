"""One thread, many waits: a poll loop, and tasks that are generators.

Runs in: vmshim, container shim, agent.   Imports: select, time; errors.
Source:  poll(2).
Never:   starts a thread. asyncio costs ten megabytes and fifty milliseconds in each of these processes.

A task is a generator that yields a Future and gets its value back, or its error raised:

    def attach(loop, ...):
        answer = yield guest.request("mount", ...)          # a Future
        yield from machine.detach(...)                      # another task's steps
        yield loop.readable(pidfd, limit_s=4, what="mkfs.erofs")

    loop.spawn(attach(...), done=lambda future: ...)
    loop.run()                                              # until stop()
    value = loop.complete(attach(...))                      # or: until this one is done
"""

import select
import time

from skerry.errors import RpcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    Steps = Generator["Future", Any, Any]

READ, WRITE = select.POLLIN, select.POLLOUT


class Future:
    """A value that is not there yet; `set` or `fail` it once, later ones do not count."""

    __slots__ = ("_then", "done", "error", "value")

    def __init__(self) -> None:
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None
        self._then: list[Callable[[Future], None]] = []

    def set(self, value: object = None) -> None:
        self._finish(value, None)

    def fail(self, error: BaseException) -> None:
        self._finish(None, error)

    def then(self, callback: "Callable[[Future], None]") -> None:
        """Call back when it is done, at once if it is."""
        if self.done:
            callback(self)
        else:
            self._then.append(callback)

    def result(self) -> "Any":
        if self.error is not None:
            raise self.error
        return self.value

    def _finish(self, value: object, error: "BaseException | None") -> None:
        if self.done:
            return
        self.done, self.value, self.error = True, value, error
        callbacks, self._then = self._then, []
        for callback in callbacks:
            callback(self)


class Loop:
    """Watches fds and clocks, and moves tasks on.

    An fd has one watcher. What a watcher or a task raises beyond its future ends `run`.
    """

    __slots__ = ("_clock", "_poller", "_ready", "_stopped", "_timers", "_watched")

    def __init__(self) -> None:
        self._poller = select.poll()
        self._watched: dict[int, Callable[[int], None]] = {}
        self._timers: dict[int, tuple[float, Callable[[], None]]] = {}
        self._ready: list[Callable[[], None]] = []
        self._clock = 0
        self._stopped = False

    # fds

    def watch(self, fd: int, events: int, callback: "Callable[[int], None]") -> None:
        """Call back with the events whenever some are there; POLLHUP and POLLERR always are asked for."""
        self._poller.register(fd, events)
        self._watched[fd] = callback

    def unwatch(self, fd: int) -> None:
        if self._watched.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def readable(self, fd: int, *, limit_s: "float | None" = None, what: str = "") -> Future:
        """Done when the fd is readable, or its peer gone.

        Errors  RpcError `<what> did not answer within <limit_s> s`.
        """
        future = Future()
        self.watch(fd, READ, lambda _: future.set())
        future.then(lambda _: self.unwatch(fd))
        return future if limit_s is None else self.within(future, limit_s, what)

    # clocks

    def call_later(self, seconds: float, callback: "Callable[[], None]") -> int:
        """Result  a number for `cancel`."""
        self._clock += 1
        self._timers[self._clock] = (time.monotonic() + seconds, callback)
        return self._clock

    def cancel(self, timer: int) -> None:
        self._timers.pop(timer, None)

    def within(self, future: Future, limit_s: float, what: str) -> Future:
        """The future itself; it fails with RpcError when the time is up."""

        def late() -> None:
            future.fail(RpcError(f"{what} did not answer within {limit_s:g} s"))

        timer = self.call_later(limit_s, late)
        future.then(lambda _: self.cancel(timer))
        return future

    # tasks

    def spawn(self, steps: "Steps", done: "Callable[[Future], None] | None" = None) -> Future:
        """Begin a task; its future has what it returns or raises."""
        outcome = Future()
        if done is not None:
            outcome.then(done)
        self._step(steps, outcome, None)
        return outcome

    def _step(self, steps: "Steps", outcome: Future, last: "Future | None") -> None:
        try:
            if last is None or last.error is None:
                awaited = steps.send(last.value if last is not None else None)
            else:
                awaited = steps.throw(last.error)
        except StopIteration as end:
            outcome.set(end.value)
            return
        except Exception as error:
            outcome.fail(error)
            return
        # By way of the loop: a chain of futures that are done already must not grow the stack.
        awaited.then(lambda future: self._ready.append(lambda: self._step(steps, outcome, future)))

    # running

    def stop(self) -> None:
        self._stopped = True

    def run(self) -> None:
        """Until `stop`."""
        self._stopped = False
        while not self._stopped:
            self.turn()

    def complete(self, steps: "Steps") -> "Any":
        """Run until this task is done; what it returns, or raises."""
        outcome = self.spawn(steps)
        while not outcome.done:
            self.turn()
        return outcome.result()

    def turn(self) -> None:
        """One round: what is ready, then the fds, then whoever has waited long enough.

        It waits only if nothing was ready: what was may have done what the caller of `turn` is after.
        """
        ready, self._ready = self._ready, []
        for callback in ready:
            callback()
        for fd, events in self._poller.poll(0 if ready else self._wait_ms()):
            watcher = self._watched.get(fd)  # an earlier one of this round may have unwatched it
            if watcher is not None:
                watcher(events)
        self._expire()

    def _wait_ms(self) -> "int | None":
        if not self._timers:
            return None
        rest = min(when for when, _ in self._timers.values()) - time.monotonic()
        return max(0, -int(-rest * 1000 // 1))

    def _expire(self) -> None:
        now = time.monotonic()
        for timer, (when, callback) in list(self._timers.items()):
            if when <= now and self._timers.pop(timer, None) is not None:
                callback()
