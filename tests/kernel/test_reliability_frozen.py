"""Frozen containers, frozen cgroups in them, and processes that init's end leaves behind."""

import os
import signal
import time
from pathlib import Path

import pytest
from support import host, leaks
from support.box import Box, Container
from support.spec import drop_namespace, fresh_spec, namespace, shell

LIMIT_S = 2


def freezer_of(container: Container) -> Path:
    if "freezer" not in host.cgroup_mounts():
        pytest.skip("needs the v1 freezer: v2 kills what is frozen by itself")
    return host.cgroup_of(container.pid, "freezer")


def freeze_inside(container: Container, *, with_init: bool) -> Path:
    """What a container with a writable cgroup could do: freeze itself in a cgroup of its own, and one below."""
    top = freezer_of(container)
    inner = top / "inner"
    (inner / "below").mkdir(parents=True)
    for pid in (top / "cgroup.procs").read_text().split():
        if with_init or int(pid) != container.pid:
            (inner / "below/cgroup.procs").write_text(pid)
    for path in (inner / "below", inner):
        (path / "freezer.state").write_text("FROZEN")
        host.eventually(lambda path=path: (path / "freezer.state").read_text().strip() == "FROZEN")
    return inner


def quick(begin: float) -> None:
    assert time.monotonic() - begin < LIMIT_S


@pytest.mark.parametrize("status", ["created", "running"])
def test_kill_of_a_paused_container(box: Box, status: str) -> None:
    """lifecycle 108: KILL thaws; the container is stopped at once."""
    container = box.create(fresh_spec("probe", "park"))
    if status == "running":
        container.start().stream.until("ready")
    container.verb("pause").ok()
    assert container.status == "paused"
    begin = time.monotonic()
    container.kill("KILL")
    assert container.wait(LIMIT_S) == -signal.SIGKILL
    quick(begin)
    assert container.status == "stopped"
    container.delete().ok()


def test_term_of_a_paused_container_waits_for_the_thaw(box: Box) -> None:
    """lifecycle 108: kill works on paused; another signal than KILL changes nothing but what is pending."""
    container = box.start(shell("trap 'exit 3' TERM; echo up; while :; do read -t 1 x; done"))
    container.stream.until("up")
    container.verb("pause").ok()
    container.kill("TERM")
    assert container.status == "paused"
    container.verb("resume").ok()
    assert container.wait() == 3


@pytest.mark.parametrize("how", ["kill", "delete"])
@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
def test_init_in_a_cgroup_that_it_froze_itself(box: Box, how: str, paused: bool) -> None:
    """security 6: nested frozen groups too, in less than 2 s, and none is left frozen."""
    container = box.parked(fresh_spec())
    inner = freeze_inside(container, with_init=True)
    if paused:
        container.verb("pause").ok()
    begin = time.monotonic()
    if how == "kill":
        container.kill("KILL")
        assert container.wait(LIMIT_S) == -signal.SIGKILL
        container.delete().ok()
    else:
        box.runtime.spawn("delete", "--force", container.id).finish_reaping().ok()
    quick(begin)
    assert not inner.exists()


def test_children_in_a_frozen_cgroup(box: Box) -> None:
    """The kernel kills the others of a pid namespace with its init; frozen ones hold it back."""
    container = box.start(shell("sleep 1000 & sleep 1000 & echo up; wait"))
    container.stream.until("up")
    freeze_inside(container, with_init=False)
    begin = time.monotonic()
    box.runtime.spawn("delete", "--force", container.id).finish_reaping().ok()
    quick(begin)


# --- processes left behind

def left_behind(box: Box, *, with_pid_path: bool) -> tuple[Container, list[int]]:
    """A container whose init has ended while two children of it live on: they are in another's pid namespace."""
    spec = shell("sleep 1000 & sleep 1000 & echo up; read x")
    if with_pid_path:
        sandbox = box.parked(fresh_spec())
        namespace(spec, "pid", f"/proc/{sandbox.pid}/ns/pid")
    else:
        drop_namespace(spec, "pid")
    container = box.start(spec, stdin=_pipe())
    container.stream.until("up")
    host.wait_exit(container.pid)
    pids = [int(pid) for pid in container.verb("ps", "-f", "json").out.strip("[]\n").split(",") if pid]
    assert container.status == "stopped" and pids == []
    left = _members(container)
    assert len(left) == 2
    return container, left


def _pipe() -> int:
    """The reading end of a pipe whose other end is closed: `read` ends at once."""
    reading, writing = os.pipe()
    os.close(writing)
    return reading


def _members(container: Container) -> list[int]:
    pids: set[int] = set()
    for path in leaks.cgroups(container.box.token, container.id):
        pids |= {int(pid) for pid in (path / "cgroup.procs").read_text().split()}
    return sorted(pids)


@pytest.mark.parametrize("with_pid_path", [True, False], ids=["another's pid namespace", "host's pid namespace"])
@pytest.mark.parametrize("flags", [(), ("--force",)], ids=["delete", "delete --force"])
def test_delete_kills_what_init_left(box: Box, with_pid_path: bool, flags: tuple[str, ...]) -> None:
    """security 6: shared or host pid namespace, init gone: 0 leftovers."""
    container, left = left_behind(box, with_pid_path=with_pid_path)
    box.runtime.spawn("delete", *flags, container.id).finish_reaping().ok()
    for pid in left:
        host.wait_exit(pid, LIMIT_S)
    assert leaks.cgroups(box.token, container.id) == []


def test_kill_all_reaches_what_init_left(box: Box) -> None:
    """lifecycle 106, 108: with --all a stopped container is no error, and its processes get the signal."""
    container, left = left_behind(box, with_pid_path=False)
    container.verb("kill", "KILL").failed()
    box.runtime.call("kill", "--all", container.id, "TERM").ok()
    for pid in left:
        host.wait_exit(pid, LIMIT_S)
    container.wait()
    container.delete().ok()


@pytest.mark.parametrize("words", [("KILL",), ("--all", "TERM")], ids=["KILL", "all TERM"])
def test_kill_without_an_own_pid_namespace(box: Box, words: tuple[str, ...]) -> None:
    """lifecycle 108: KILL takes all of them, as does --all with any signal."""
    spec = shell("sleep 1000 & sleep 1000 & echo up; wait")
    drop_namespace(spec, "pid")
    container = box.start(spec)
    container.stream.until("up")
    pids = _members(container)
    assert len(pids) == 3
    flags, signal_ = words[:-1], words[-1]
    box.runtime.call("kill", *flags, container.id, signal_).ok()
    for pid in pids:
        host.wait_exit(pid, LIMIT_S)
    leaks.reap()
    container.delete().ok()
