"""What a failure leaves, who cleans up after it, and what the status is meanwhile."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import host
from support.box import Box, Container
from support.runtime import Running
from support.spec import drop_namespace, fresh_spec, shell

pytestmark = pytest.mark.skerry_only("lifecycle D, I, K: skerry's own rules of clean-up and status")


def key(container: Container, name: str) -> object:
    return json.loads((container.box.runtime.root / container.id / name).read_text())


def hook(script: str, **more: object) -> dict:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], **more}


# --- a create at work, and one that was killed

class Creating:
    """A create that waits in a hook on the host until it is let go."""

    def __init__(self, box: Box, spec: dict) -> None:
        self.box, self.id = box, box.new_id()
        self._fifo = box.dir / "fifo"
        os.mkfifo(self._fifo)
        spec["hooks"] = {"createRuntime": [hook(f"echo > {box.dir}/begun; cat {self._fifo}")]}
        self.running: Running = box.runtime.spawn("create", "--bundle", box.bundle(spec), self.id)
        host.eventually((box.dir / "begun").exists, 10)

    def state(self) -> dict:
        return self.box.runtime.call("state", self.id).ok().json()  # type: ignore[return-value]

    def go_on(self) -> None:
        self._fifo.write_text("go\n")


@pytest.fixture
def creating(box: Box) -> Iterator[Creating]:
    made = Creating(box, fresh_spec("probe", "park"))
    yield made
    if made.running.process.poll() is None:
        made.running.signal(signal.SIGKILL)
        made.running.finish()


def test_status_while_the_creator_is_at_work(box: Box, creating: Creating) -> None:
    """lifecycle 99, 102: creating, without a pid -1; created once the shim is on record."""
    state = creating.state()
    assert (state["status"], state["pid"]) == ("creating", -1)
    box.runtime.call("start", creating.id).failed().says("cannot start a container in the creating state")
    box.runtime.call("kill", creating.id, "KILL").failed().says("container not running")
    creating.go_on()
    creating.running.finish().ok()
    assert creating.state()["status"] == "created"


def test_delete_while_the_creator_is_at_work(box: Box, creating: Creating) -> None:
    """lifecycle 113: refused; with --force the creator is left alive to clean up, and create fails."""
    text = f"cannot delete container {creating.id} that is not stopped: creating"
    box.runtime.call("delete", creating.id).failed().says(text)
    assert creating.running.process.poll() is None
    deleting = box.runtime.spawn("delete", "--force", creating.id)
    host.eventually(lambda: init_is_gone(box, creating), 10)
    assert creating.running.process.poll() is None
    creating.go_on()
    result = creating.running.finish()
    assert result.code == 1, result  # by itself: a signal would be negative
    deleting.finish_reaping().ok()
    box.runtime.call("state", creating.id).failed().says("does not exist")


def init_is_gone(box: Box, creating: Creating) -> bool:
    try:
        items = json.loads((box.runtime.root / creating.id / "resources").read_text())
    except FileNotFoundError:
        return True
    return not any(alive(item["pid"]) for item in items if item["kind"] == "process")


def alive(pid: int) -> bool:
    try:
        return host.status_of(pid)["State"][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_creator_that_was_killed(box: Box, creating: Creating) -> None:
    """lifecycle 42, 100: stopped, without a process; delete takes what it made."""
    creating.running.signal(signal.SIGKILL)
    creating.running.finish()
    state = creating.state()
    assert (state["status"], state["pid"]) == ("stopped", 0)
    box.runtime.call("start", creating.id).failed().says("cannot start a container that has stopped")
    creating.go_on()
    box.runtime.spawn("delete", creating.id).finish_reaping().ok()


def test_status_of_each_kind(box: Box) -> None:
    """lifecycle 99, 100: from the engine, at each moment; with `exit` on record it is stopped."""
    container = box.create(fresh_spec("probe", "park"))
    assert container.status == "created"
    container.start()
    container.stream.until("ready")
    assert container.status == "running"
    container.verb("pause").ok()
    assert container.status == "paused"
    container.verb("resume").ok()
    assert container.status == "running"
    container.end()
    assert container.status == "stopped"
    assert not (box.runtime.root / container.id / "exit").exists()


def test_exit_on_record_means_stopped(box: Box) -> None:
    """lifecycle 15, 17, 100: run waits for its init, so it writes the end down."""
    id = box.new_id()
    assert box.run(shell("exit 5"), "--keep", id=id).code == 5
    record = json.loads((box.runtime.root / id / "exit").read_text())
    assert {"code", "signal", "reason", "time"} == record.keys()
    assert (record["code"], record["signal"]) == (5, 0)


# --- launching skerry-init

def test_create_has_a_limit(box: Box) -> None:
    """lifecycle 60, 128: what hangs is killed, and the error names the step it was last heard of."""
    spec = fresh_spec()
    spec["hooks"] = {"createContainer": [hook("sleep 1000")]}
    result = box.try_create(spec, env={"SKERRY_TIMEOUT_CREATE": "1"}).failed()
    result.says("no answer within 1 s", "after the step \"let the host's hooks run\"")
    assert box.leftovers() == [], result


def test_bad_limit_is_a_warning(box: Box) -> None:
    """lifecycle 128: the default stays."""
    result = box.try_create(fresh_spec(), env={"SKERRY_TIMEOUT_CREATE": "soon"}).ok()
    assert "SKERRY_TIMEOUT_CREATE=soon" in result.err


def test_init_that_dies_in_create(box: Box) -> None:
    """lifecycle 51, 58, 59: without a word of its own; no child is left, not even a zombie."""
    spec = fresh_spec()
    spec["hooks"] = {"createRuntime": [hook("kill -KILL $(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')")]}
    result = box.refuses(spec, "skerry-init ended before the program could start: killed by signal 9")
    assert host.descendants() == [], result


def test_launch_that_fails_leaves_no_child(box: Box) -> None:
    """lifecycle 54, 59."""
    for spec in (fresh_spec("no-such"), fresh_spec()):
        spec["linux"]["sysctl"] = {"kernel.msgmax": "nonsense"}
        box.refuses(spec)
        assert host.descendants() == []


# --- releasing

def test_resources_are_all_there_for_another_process(box: Box) -> None:
    """lifecycle 118, 147: the list is not empty, and enough for a delete that never saw the create."""
    container = box.parked(fresh_spec())
    items = key(container, "resources")
    assert [item["kind"] for item in items] == ["cgroup", "process"]
    assert items[1]["pid"] == container.pid
    where = host.cgroup_of(container.pid, "pids")
    assert where.is_dir()
    container.delete("--force").ok()
    assert not where.exists()


class Stuck:
    """A stopped container with a process that the kernel will not end: its parent's freezer holds it."""

    def __init__(self, box: Box) -> None:
        if "freezer" not in host.cgroup_mounts():
            pytest.skip("only the freezer of cgroup v1 holds what was killed")
        spec = shell("sleep 1000 & echo up")
        drop_namespace(spec, "pid")
        parent = f"/{box.token}/{box.token}-{box._number}-stuck"
        spec["linux"]["cgroupsPath"] = f"{parent}/inner"
        self.container = box.start(spec)
        self.container.stream.until("up")
        self.container.wait()
        self._freezer = host.cgroup_mounts()["freezer"] / parent[1:] / "freezer.state"

    def freeze(self) -> None:
        self._freezer.write_text("FROZEN")
        host.eventually(lambda: self._freezer.read_text() == "FROZEN\n")

    def thaw(self) -> None:
        self._freezer.write_text("THAWED")


@pytest.mark.slow
def test_failed_release_is_told_kept_and_repeated(box: Box) -> None:
    """lifecycle 119, 120, 148, 156: the id stays, stopped, with what is left; again in vain; then it works."""
    stuck = Stuck(box)
    container = stuck.container
    stuck.freeze()
    for _ in range(2):
        result = container.verb("delete", env={"SKERRY_TIMEOUT_KILL": "1"}).failed()
        result.says("failed to release one or more container resources")
        assert container.status == "stopped"
        assert [item["kind"] for item in key(container, "resources")] == ["cgroup"]
    stuck.thaw()
    container.verb("delete", env={"SKERRY_TIMEOUT_KILL": "5"}).ok()
    assert box.leftovers() == []


@pytest.mark.slow
def test_force_does_not_swallow_a_failed_release(box: Box) -> None:
    """lifecycle 120, 156: with --force too the state stays until everything is gone."""
    stuck = Stuck(box)
    stuck.freeze()
    stuck.container.verb("delete", "--force", env={"SKERRY_TIMEOUT_KILL": "1"}).failed().says("failed to release")
    assert stuck.container.id in box.runtime.call("list", "-q").ok().lines
    stuck.thaw()
    stuck.container.verb("delete", "--force").ok()


def test_order_of_delete(box: Box) -> None:
    """lifecycle 115: killed, released, then poststop hooks, and the id last."""
    spec = fresh_spec("probe", "park")
    seen = box.dir / "seen"
    container_root = f"{box.runtime.root}/$id"
    script = (
        "id=$(sed 's/.*\"id\": *\"\\([^\"]*\\)\".*/\\1/'); "
        f"ls -d {container_root} > {seen}; find /sys/fs/cgroup -name \"$id\" >> {seen}; pgrep -x probe | wc -l >> {seen}"
    )
    spec["hooks"] = {"poststop": [hook(script)]}
    container = box.parked(spec)
    container.delete("--force").ok()
    lines = seen.read_text().split()
    assert lines[0] == f"{box.runtime.root}/{container.id}"
    assert container.id not in lines[1:]
    assert not os.path.exists(lines[0])


# --- what is asked for and what is not known

@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.3.0", "1.99.0", "1.0.0-rc5"])
def test_versions(box: Box, version: str) -> None:
    """lifecycle 133: any 1.x."""
    spec = fresh_spec("true")
    spec["ociVersion"] = version
    box.run(spec).ok()


def test_unknown_fields_are_ignored(box: Box) -> None:
    """lifecycle 133: in every object that has none of ours."""
    spec = fresh_spec("echo", "up")
    for place in (spec, spec["process"], spec["root"], spec["linux"], spec["linux"]["resources"], spec["mounts"][0]):
        place["futureProperty"] = {"a": [1, None]}
    result = box.run(spec).ok()
    assert (result.out, result.err) == ("up\n", "")


@pytest.mark.parametrize(
    ("place", "key_", "value"),
    [
        ("linux", "intelRdt", {"closID": "x"}),
        ("process", "selinuxLabel", "a:b:c:d"),
        ("linux", "cgroupsPath", "system.slice:skerry:x"),
    ],
)
def test_what_cannot_be_applied_fails_create(box: Box, place: str, key_: str, value: object) -> None:
    """lifecycle 133: nothing wanted is left out in silence; the error has the pointer of it."""
    spec = fresh_spec()
    spec[place][key_] = value
    box.refuses(spec, f"/{place}/{key_}")


# --- another root

def test_life_below_a_root_of_another_name(box: Box) -> None:
    """lifecycle 2, 145: every verb finds it there, and only there."""
    name = f"{box.token}-root"
    root = Path("/run/skerry") / name
    binary, spec = box.runtime, fresh_spec("probe", "park")
    spec["linux"]["cgroupsPath"] = box.cgroup_path()
    where, id = box.bundle(spec), "one"
    try:
        binary.call("create", "--bundle", where, "--pid-file", where / "pid", id, root=name).ok()
        binary.call("start", id, root=name).ok()
        assert binary.call("exec", id, "echo", "in", root=name).ok().out == "in\n"
        assert binary.call("list", "-q", root=name).ok().lines == [id]
        assert binary.call("list", "-q", root=root).ok().lines == [id]
        binary.call("state", id).failed().says("does not exist")
        binary.call("delete", "--force", id, root=name).ok()
        assert [entry for entry in os.listdir(root) if not entry.startswith("@")] == []
    finally:
        binary.call("delete", "--force", id, root=name)
        for directory, names, files in os.walk(root, topdown=False):
            for entry in files:
                os.unlink(os.path.join(directory, entry))
            for entry in names:
                os.rmdir(os.path.join(directory, entry))
        root.rmdir()
