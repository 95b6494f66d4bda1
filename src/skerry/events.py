"""What happens in a container, as a stream: figures at intervals, and out-of-memory.

Runs in: events.   Imports: select, time; container.
Source:  docs/lifecycle.md M, P; runc events for the shape.
Never:   misses an OOM that came before the end: the counter is read once more after it.
"""

import select
import time

from skerry.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from skerry.container import Container


def watch(
    container: "Container", *, interval_s: float, stats_only: bool = False
) -> "Iterator[dict[str, Any]]":
    """Yield events until the container has ended.

    Shape   `{"type": "stats", "id", "data"}`, `{"type": "oom", "id"}`; with `stats_only` one of the first kind.
    Errors  StateError where it is not running.
    """
    first = _stats(container)
    if stats_only:
        yield first
        return
    # Before the first word: who reads it may act at once.
    oom = container.engine.oom_watch()
    try:
        poller = select.poll()
        poller.register(container.pidfd, select.POLLIN)
        poller.register(oom.fileno(), select.POLLIN)
        yield first
        due = time.monotonic() + interval_s
        while True:
            ready = dict(poller.poll(max(0, int((due - time.monotonic()) * 1000))))
            if ready and oom.happened():
                yield {"type": "oom", "id": container.id}
            if container.pidfd in ready:
                return
            if time.monotonic() >= due:
                due += interval_s
                yield from _stats_if_there(container)
    finally:
        oom.close()


def _stats(container: "Container") -> "dict[str, Any]":
    return {"type": "stats", "id": container.id, "data": container.stats()}


def _stats_if_there(container: "Container") -> "Iterator[dict[str, Any]]":
    """It may end between two looks."""
    try:
        yield _stats(container)
    except Error as error:
        container.log.debug(str(error))
