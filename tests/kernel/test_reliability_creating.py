"""A container in the making: what each verb says to it, and what becomes of it when its creator is killed, stuck or stopped."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import host, leaks
from support.box import Box
from support.runtime import Running
from support.spec import fresh_spec

HURRY = {"SKERRY_TIMEOUT_KILL": "1"}


class Making:
    """A create that stands still in a hook, until `go_on`."""

    def __init__(self, box: Box, hook: str = "createRuntime") -> None:
        self.box, self.id = box, box.new_id()
        self._says, self._waits = box.dir / "says", box.dir / "waits"
        for fifo in (self._says, self._waits):
            os.mkfifo(fifo)
        spec = fresh_spec("probe", "park")
        script = f"echo $$ > {self._says}; exec cat {self._waits}"
        spec["hooks"] = {hook: [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
        spec["hooks"]["poststop"] = [{"path": "/bin/sh", "args": ["sh", "-c", f"echo >> {box.dir}/poststop"]}]
        self.bundle = box.bundle(spec)
        self.creator: Running = box.runtime.spawn("create", "--bundle", self.bundle, self.id)
        with open(self._says) as says:
            self.hook_pid = int(says.read())

    def go_on(self) -> None:
        with open(self._waits, "w"):
            pass

    def verb(self, verb: str, *words: object, **how: object) -> object:
        return self.box.runtime.call(verb, *words, self.id, **how)  # type: ignore[arg-type]

    @property
    def poststops(self) -> int:
        path = self.box.dir / "poststop"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def nothing_is_left(self) -> None:
        assert leaks.settle(self.box.leftovers) == []


@contextmanager
def making(box: Box, hook: str = "createRuntime") -> Iterator[Making]:
    """End creator and hook whatever comes."""
    one = Making(box, hook)
    try:
        yield one
    finally:
        for pid in (one.hook_pid, one.creator.pid):
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGKILL)
        one.creator.process.wait()


REFUSALS = {
    "start": "cannot start a container in the creating state",
    "exec": "cannot exec in a container in the creating state",
    "kill": "container not running",
    "pause": "container not running",
    "resume": "container not paused",
    "ps": "container not running",
    "events": "container with id {id} is not running",
    "delete": "cannot delete container {id} that is not stopped: creating",
}


def test_verbs_on_a_container_in_the_making(box: Box) -> None:
    """lifecycle 90, 94, 99, 102, 108, 110, 112, and none of them disturbs the creator."""
    with making(box) as it:
        state = it.verb("state").ok().json()
        assert (state["status"], state["pid"]) == ("creating", -1)
        assert " creating " in box.runtime.call("list").ok().out
        for verb, text in REFUSALS.items():
            words = ("true",) if verb == "exec" else ()
            result = box.runtime.call(verb, it.id, *words)
            assert result.code == (255 if verb == "exec" else 1), result
            assert result.message.endswith(text.format(id=it.id)), result
        it.go_on()
        it.creator.finish().ok()
        assert it.verb("state").ok().json()["status"] == "created"
        it.verb("delete").ok()


def test_creator_killed(box: Box) -> None:
    """lifecycle 100, 112: creator dead without `shim`: stopped; a plain delete removes it, poststop hooks run once."""
    with making(box) as it:
        os.kill(it.creator.pid, signal.SIGKILL)
        it.creator.finish()
        assert it.verb("state").ok().json()["status"] == "stopped"
        it.verb("start").failed().says("cannot start a container that has stopped")
        it.verb("kill", "--all").ok()
        os.kill(it.hook_pid, signal.SIGKILL)
        box.runtime.spawn("delete", it.id).finish_reaping().ok()
        assert it.poststops == 1
        it.nothing_is_left()


def test_force_delete_lets_the_creator_undo(box: Box) -> None:
    """lifecycle 113: the engine's container is killed, the creator notices, cleans up and tells; it is never signalled."""
    with making(box, "createContainer") as it:
        begin = time.monotonic()
        box.runtime.call("delete", "--force", it.id).ok()
        assert time.monotonic() - begin < 2
        result = it.creator.finish().failed()
        assert result.message == (
            "skerry create failed: skerry-init ended before the program could start: killed by signal 9"
        )
        assert it.poststops == 1
        it.nothing_is_left()


@pytest.mark.slow
def test_force_delete_does_not_wait_for_ever(box: Box) -> None:
    """lifecycle 113: a creator that is stuck in a hook; the rest is removed, and the creator ends with an error later."""
    with making(box) as it:
        begin = time.monotonic()
        box.runtime.call("delete", "--force", it.id, env=HURRY).ok()
        assert 0.9 < time.monotonic() - begin < 3
        it.verb("state").failed().says("does not exist")
        assert leaks.cgroups(box.token, it.id) == []
        # The id is free, and the old creator's end must not touch its next bearer.
        again = box.parked(fresh_spec(), id=it.id)
        it.go_on()
        result = it.creator.finish().failed()
        assert "killed by signal 9" in result.message and len(result.err.splitlines()) == 1, result
        assert again.status == "running"
        assert it.poststops == 1


@pytest.mark.slow
def test_force_delete_while_the_creator_is_stopped(box: Box) -> None:
    """lifecycle 113: stopped by a signal in the middle of its work; when it goes on it finds nothing and leaves nothing."""
    for delay_s in (0.012, 0.016, 0.02, 0.025, 0.03):
        id = box.new_id()
        creator = box.runtime.spawn("create", "--bundle", box.bundle(fresh_spec()), id)
        try:
            host.wait_exit(creator.pid, delay_s)
        except TimeoutError:
            os.kill(creator.pid, signal.SIGSTOP)
        result = None
        if _has_ended(creator.pid):  # it was quicker than the stop
            result = creator.finish()
        box.runtime.spawn("delete", "--force", id, env=HURRY).finish_reaping().ok()
        if result is None:
            os.kill(creator.pid, signal.SIGCONT)
            result = creator.finish_reaping()
        if result.code == 0:  # it was not yet, or no more, in the making
            box.runtime.spawn("delete", "--force", id).finish_reaping().ok()
        assert leaks.settle(box.leftovers) == [], delay_s


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
