"""The state directory under stress: concurrent verbs, broken key files, killed creators, a reboot."""

import json
import os
import signal
from pathlib import Path

import pytest
from support import host, leaks
from support.box import Box, Container
from support.spec import fresh_spec

ROUNDS = 5


def test_of_concurrent_creates_one_wins(box: Box) -> None:
    """lifecycle 4, security 6: the others change nothing."""
    id = box.new_id()
    bundles = [box.bundle(fresh_spec()) for _ in range(8)]
    both = [
        box.runtime.spawn("create", "--bundle", where, "--pid-file", where / "pid", id) for where in bundles
    ]
    results = [running.finish() for running in both]
    assert sorted(result.code for result in results) == [0] + [1] * 7, results
    assert sum((where / "pid").exists() for where in bundles) == 1
    assert box.runtime.call("state", id).ok().json()["status"] == "created"


@pytest.mark.slow
def test_of_concurrent_deletes_one_wins(box: Box) -> None:
    """lifecycle 117, security 6: nothing is left, and plain deletes but one find no such id."""
    for _ in range(ROUNDS):
        container = box.create(fresh_spec())
        container.end()
        results = [running.finish() for running in [box.runtime.spawn("delete", container.id) for _ in range(6)]]
        assert [result.code for result in results].count(0) == 1, results
        assert box.leftovers() == []


@pytest.mark.slow
def test_concurrent_force_deletes_all_succeed(box: Box) -> None:
    """lifecycle 114, 117."""
    for _ in range(ROUNDS):
        container = box.parked(fresh_spec())
        running = [box.runtime.spawn("delete", "--force", container.id) for _ in range(6)]
        results = [one.finish() for one in running]
        assert {result.code for result in results} == {0}, results
        host.eventually(lambda: box.leftovers() == [])


@pytest.mark.slow
def test_create_that_is_killed_is_deleted_completely(box: Box) -> None:
    """lifecycle 42, 118: SIGKILL at moments spread over a create, then delete --force, then the same id again."""
    for step in range(20):
        id = box.new_id()
        running = box.runtime.spawn("create", "--bundle", box.bundle(fresh_spec()), id)
        try:
            host.wait_exit(running.pid, 0.003 * step)
        except TimeoutError:
            running.signal(signal.SIGKILL)
        running.finish_reaping()
        box.runtime.spawn("delete", "--force", id).finish_reaping().ok()
        assert leaks.settle(box.leftovers) == [], step
    box.create(fresh_spec(), id=id)


def test_list_against_delete(box: Box) -> None:
    """lifecycle 104: an entry deleted meanwhile is skipped silently."""
    containers = [box.create(fresh_spec()) for _ in range(4)]
    deleting = [box.runtime.spawn("delete", "--force", container.id) for container in containers]
    for _ in range(6):
        result = box.runtime.call("list", "-f", "json").ok()
        assert result.err == "", result
    for one in deleting:
        one.finish()


# --- broken files

def key(container: Container, name: str) -> Path:
    return container.box.runtime.root / container.id / name


DAMAGES = {
    "empty": b"", "truncated": None, "list": b"[]", "text": b'"x"', "null": b"null", "binary": b"\0\xff" * 50,
    "wrong types": b'{"ID": 5, "Bundle": [], "Created": {}}',
}  # fmt: skip


@pytest.mark.skerry_only("security 8, stored state; lifecycle 15 names the keys")
@pytest.mark.parametrize("name", ["state", "spec", "resources", "pid", "shim"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_key(box: Box, name: str, damage: str) -> None:
    """Verbs refuse or go on without it, list goes on, delete --force removes the id and what it can still find."""
    container = box.parked(fresh_spec())
    path = key(container, name)
    data = DAMAGES[damage]
    path.write_bytes(path.read_bytes()[:-3] if data is None else data)
    for verb in ("state", "start", "pause", "ps"):
        result = container.verb(verb)
        assert result.code in (0, 1) and "Traceback" not in result.err, result
    assert box.runtime.call("list").code == 0
    container.verb("delete", "--force").ok()
    assert not key(container, "state").parent.exists()
    if name == "resources":  # where its cgroups are was said there
        leaks.remove(box.token, container.id, box.runtime.root)


@pytest.mark.skerry_only("lifecycle 14: a recycled pid counts as dead")
def test_foreign_pid_is_never_signalled(box: Box) -> None:
    """The key names a living process of ours with another start time."""
    container = box.parked(fresh_spec())
    victim = box.parked(fresh_spec())
    path = key(container, "pid")
    text = path.read_text()
    assert str(container.pid) in text
    container.end()
    path.write_text(text.replace(str(container.pid), str(victim.pid), 1))
    assert container.status == "stopped"
    box.runtime.call("kill", container.id, "KILL").failed().says("container not running")
    container.delete("--force").ok()
    assert victim.status == "running"


@pytest.mark.skerry_only("security 8: a link, or a file of another owner")
@pytest.mark.parametrize("form", ["link", "owner"])
def test_key_that_is_not_ours(box: Box, form: str) -> None:
    container = box.parked(fresh_spec())
    path = key(container, "state")
    if form == "link":
        path.rename(box.dir / "elsewhere")
        path.symlink_to(box.dir / "elsewhere")
    else:
        os.chown(path, 1000, 1000)
    container.verb("state").failed()
    container.verb("delete", "--force").ok()


@pytest.mark.skerry_only("lifecycle 13: the root is volatile")
def test_after_a_reboot_every_id_is_gone(box: Box) -> None:
    root = box.dir / "root"
    id = box.new_id()
    spec = fresh_spec("probe", "park")
    where = box.bundle(spec)
    box.runtime.call("create", "--bundle", where, "--pid-file", where / "pid", id, root=root).ok()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    marks = [path for path in root.iterdir() if path.is_file() and boot in path.read_text()]
    assert len(marks) == 1
    marks[0].write_text(marks[0].read_text().replace(boot, "00000000-0000-0000-0000-000000000000"))
    assert box.runtime.call("list", "-q", root=root).ok().out == ""
    box.runtime.call("state", id, root=root).failed().says("does not exist")
    os.kill(int((where / "pid").read_text()), signal.SIGKILL)
    host.wait_exit(int((where / "pid").read_text()))
    leaks.reap()
    leaks.remove(box.token, id, root)


@pytest.mark.skerry_only("lifecycle 114")
def test_id_without_a_state(box: Box) -> None:
    for force, code in ((True, 0), (False, 1)):
        container = box.create(fresh_spec())
        key(container, "state").unlink()
        flags = ("--force",) if force else ()
        assert container.verb("delete", *flags).code == code
        assert not (box.runtime.root / container.id).exists()


@pytest.mark.skerry_only("lifecycle 15: the keys of a process-isolated container")
def test_keys(box: Box) -> None:
    """lifecycle 16, 43: and the record holds no spec (decisions 29)."""
    container = box.create(fresh_spec())
    keys = {path.name for path in (box.runtime.root / container.id).iterdir()}
    assert {"state", "spec", "resources", "netns", "shim", "pid"} <= keys
    assert "process" not in json.loads(key(container, "state").read_text())
    assert json.loads(key(container, "spec").read_text())["process"]["args"] == ["true"]
