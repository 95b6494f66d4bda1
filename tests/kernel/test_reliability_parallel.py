"""Many verbs on one id at the same time: one winner, nothing left, and nobody else's process touched."""

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support import host, leaks
from support.box import Box
from support.runtime import Result, Running
from support.spec import fresh_spec

from skerry.container import Container, open_store
from skerry.errors import NotFound

ROUNDS = 60 if os.environ.get("SKERRY_ROUNDS") == "all" else int(os.environ.get("SKERRY_ROUNDS", "25")) // 5


def finish_all(running: list[Running], nudge: Callable[[], object] | None = None) -> list[Result]:
    """Wait for all of them, and reap meanwhile whatever else ends: a pid namespace ends when its last process is reaped.

    `nudge` is called every few seconds.
    """
    ours = {one.pid for one in running}
    for tick, _ in enumerate(host.ticks(60)):
        if nudge is not None and tick % 300 == 299:
            nudge()
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        for pid in host.descendants():
            if pid not in ours:
                try:
                    if os.waitid(os.P_PID, pid, flags) is not None:
                        os.waitpid(pid, 0)
                except ChildProcessError:
                    continue  # a grandchild
        if all(os.waitid(os.P_PID, pid, flags) is not None for pid in ours):
            return [one.finish() for one in running]
    raise AssertionError("never")


def outcome(running: list[Running], nudge: Callable[[], object] | None = None) -> list[str]:
    """What each said; "" for success."""
    results = finish_all(running, nudge)
    for result in results:
        assert result.code in (0, 1, 255), result
        assert "internal error" not in result.err and "Traceback" not in result.err, result
    return [result.err.strip() if result.code else "" for result in results]


@pytest.mark.slow
def test_hundred_creates_of_one_id(box: Box) -> None:
    """lifecycle 4: one winner; the others say so and change nothing."""
    id = box.new_id()
    bundle = box.bundle(fresh_spec())
    said = outcome([box.runtime.spawn("create", "--bundle", bundle, id) for _ in range(100)])
    assert sorted(set(said)) == ["", f"skerry create failed: container {id} already exists"]
    assert said.count("") == 1
    assert box.runtime.call("state", id).ok().json()["status"] == "created"
    assert len(leaks.cgroups(box.token, id)) == len(set(host.cgroup_mounts().values()))
    box.runtime.call("delete", id).ok()
    assert leaks.settle(box.leftovers) == []


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--force",)], ids=["plain", "force"])
def test_thirty_deletes_of_one_id(box: Box, flags: tuple[str, ...]) -> None:
    """lifecycle 114, 117: one does it; to the others the id is unknown, which is no error with --force."""
    container = box.parked(fresh_spec())
    if not flags:
        container.end()
    said = outcome([box.runtime.spawn("delete", *flags, container.id) for _ in range(30)])
    unknown = f"container does not exist: ID '{container.id}' was not found"
    assert set(said) == ({""} if flags else {"", unknown})
    assert flags or said.count("") == 1
    assert leaks.settle(box.leftovers) == []


VERBS = (
    ("start",), ("state",), ("kill", "KILL"), ("pause",), ("resume",), ("delete",), ("delete", "--force"), ("exec", "true"),
    ("ps",), ("update", "--pids-limit", "40"), ("list",),
)  # fmt: skip


@pytest.mark.slow
def test_mixed_verbs_on_one_id(box: Box) -> None:
    """security 6: whatever meets whatever, every verb ends with a plain answer and `delete --force` with nothing."""
    draw = random.Random(42)
    id = box.new_id()
    bundle = box.bundle(fresh_spec("probe", "park"))
    for _ in range(ROUNDS):
        running = []
        for verb, *words in draw.choices(VERBS, k=12):
            if verb in ("exec", "kill"):
                running.append(box.runtime.spawn(verb, id, *words))
            else:
                running.append(box.runtime.spawn(verb, *words, *(() if verb == "list" else (id,))))
            if draw.random() < 0.3:
                running.append(box.runtime.spawn("create", "--bundle", bundle, id))
        # An exec that a pause has overtaken waits in the paused container; whoever comes last lets it go.
        outcome(running, nudge=lambda: box.runtime.spawn("delete", "--force", id).finish_reaping())
        box.runtime.spawn("delete", "--force", id).finish_reaping().ok()
        assert leaks.settle(box.leftovers) == []


# --- whose process it is

def test_a_delete_that_comes_late_spares_the_next_container(box: Box) -> None:
    """security 6: 0 signals to a wrong container: the id was deleted and created again since it was looked up."""
    container = box.parked(fresh_spec())
    late = Container.load(open_store(str(box.runtime.root)), container.id)
    container.delete("--force").ok()
    again = box.parked(fresh_spec(), id=container.id)
    with pytest.raises(NotFound):
        late.delete(force=True)
    assert again.status == "running"


@pytest.mark.parametrize("key", ["resources", "shim", "state"])
def test_forged_pid_is_never_signalled(box: Box, key: str) -> None:
    """lifecycle 14: a living process of ours, with a start time that is not its own; also where only delete looks."""
    victim = os.fork()
    if victim == 0:
        signal.pause()
    try:
        container = box.parked(fresh_spec())
        container.end()
        path = box.runtime.root / container.id / key
        text = path.read_text()
        if key == "state":
            record = json.loads(text)
            record["Creator"] = {"pid": victim, "start": record["Creator"]["start"]}
            text = json.dumps(record)
            (path.parent / "shim").unlink()
        assert str(container.pid) in text or key == "state"
        path.write_text(text.replace(str(container.pid), str(victim), 1))
        container.delete("--force").ok()
        assert os.waitpid(victim, os.WNOHANG) == (0, 0)
        assert leaks.find(box.token, container.id, box.runtime.root, str(box.dir)) == [
            f"process {victim} {_name(victim)}"
        ]
    finally:
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:100]
