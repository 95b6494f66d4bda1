"""Every child is reaped once, and whoever asks for its end is told, however early it came."""

import os

from support.forked import in_child

from skerry.agent.children import Children
from skerry.rpc.loop import Loop


def nothing() -> None:
    """The tests change the disposition of SIGCHLD, and reap whatever child there is: in a process of their own."""


def ended_child(code: int) -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(code)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def turn(loop: Loop) -> None:
    loop.call_later(0.05, lambda: None)
    loop.turn()


@in_child(nothing)
def test_an_end_that_is_waited_for():
    loop = Loop()
    children = Children(loop)
    pid = ended_child(7)
    future = children.wait(pid)
    turn(loop)
    assert future.value == (7, 0)


@in_child(nothing)
def test_an_end_that_came_early():
    loop = Loop()
    children = Children(loop)
    children.expect()
    pid = ended_child(7)
    turn(loop)
    assert children.wait(pid).value == (7, 0)


@in_child(nothing)
def test_an_end_that_nobody_expects_is_forgotten():
    loop = Loop()
    children = Children(loop)
    pid = ended_child(7)
    turn(loop)
    children.expect()
    assert not children.wait(pid).done


@in_child(nothing)
def test_an_early_end_of_another_process_with_that_number():
    """It was reaped, and the number is used again: by a process that is there."""
    loop = Loop()
    children = Children(loop)
    children.expect()
    pid = ended_child(7)
    turn(loop)
    children._early[os.getpid()] = children._early.pop(pid)
    assert not children.wait(os.getpid()).done


@in_child(nothing)
def test_death_by_signal():
    loop = Loop()
    children = Children(loop)
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), 9)
    future = children.wait(pid)
    while not future.done:
        loop.turn()
    assert future.value == (137, 9)
