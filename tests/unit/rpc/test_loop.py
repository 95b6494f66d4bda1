"""The loop and its tasks."""

import os
import time
from collections.abc import Generator
from typing import Any

import pytest

from skerry.errors import RpcError
from skerry.rpc.loop import READ, Future, Loop

Steps = Generator[Future, Any, Any]


def test_a_task_gets_the_values_of_the_futures_it_yields() -> None:
    loop = Loop()
    first, second = Future(), Future()
    first.set(20)

    def steps() -> Steps:
        a = yield first
        b = yield second
        return a + b

    outcome = loop.spawn(steps())
    loop.call_later(0.01, lambda: second.set(22))
    while not outcome.done:
        loop.turn()
    assert outcome.result() == 42


def test_an_error_of_a_future_is_raised_in_the_task() -> None:
    def steps() -> Steps:
        future = Future()
        future.fail(RpcError("gone"))
        try:
            yield future
        except RpcError as error:
            return str(error)

    assert Loop().complete(steps()) == "gone"


def test_what_a_task_raises_is_the_error_of_its_future() -> None:
    def steps() -> Steps:
        raise RpcError("no")
        yield

    with pytest.raises(RpcError, match="no"):
        Loop().complete(steps())


def test_a_long_chain_of_finished_futures_does_not_grow_the_stack() -> None:
    def steps() -> Steps:
        done = Future()
        done.set(1)
        total = 0
        for _ in range(20000):
            total += yield done
        return total

    assert Loop().complete(steps()) == 20000


def test_readable_wakes_and_stops_watching() -> None:
    loop = Loop()
    ours, theirs = os.pipe()

    def steps() -> Steps:
        yield loop.readable(ours)
        return os.read(ours, 10)

    loop.call_later(0.01, lambda: os.write(theirs, b"x"))
    assert loop.complete(steps()) == b"x"
    loop.unwatch(ours)  # already: no error
    os.close(ours)
    os.close(theirs)


def test_readable_has_a_limit() -> None:
    loop = Loop()
    ours, theirs = os.pipe()
    began = time.monotonic()

    def steps() -> Steps:
        yield loop.readable(ours, limit_s=0.05, what="the guest")

    with pytest.raises(RpcError, match=r"the guest did not answer within 0\.05 s"):
        loop.complete(steps())
    assert 0.05 <= time.monotonic() - began < 1
    os.close(ours)
    os.close(theirs)


def test_a_watcher_that_is_gone_is_not_called_in_the_same_round() -> None:
    loop = Loop()
    called = []
    pipes = [os.pipe(), os.pipe()]
    readers = [ours for ours, _ in pipes]

    def callback(fd: int) -> None:
        called.append(fd)
        for reader in readers:
            loop.unwatch(reader)

    for ours, theirs in pipes:
        loop.watch(ours, READ, lambda _, fd=ours: callback(fd))
        os.write(theirs, b"x")
    loop.turn()
    assert len(called) == 1
    for pair in pipes:
        os.close(pair[0])
        os.close(pair[1])


def test_a_cancelled_timer_does_not_ring() -> None:
    loop = Loop()
    rung = []
    loop.cancel(loop.call_later(0.01, lambda: rung.append(1)))
    loop.call_later(0.03, loop.stop)
    loop.run()
    assert not rung
