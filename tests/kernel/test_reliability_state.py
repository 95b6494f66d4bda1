"""No room, no right to write, and facts that are not what skerry wrote: refused, and `delete --force` cleans all the same."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support import host, leaks
from support.box import Box
from support.forked import in_child, private_mounts
from support.runtime import Result
from support.spec import fresh_spec

PAGE_BYTES = 4096


def small_root(box: Box, size: str) -> Path:
    root = box.dir / "root"
    root.mkdir()
    host.mount("none", root, "tmpfs", 0, f"size={size},mode=700")
    return root


def fill(root: Path, free_pages: int) -> None:
    """Leave so many pages free; a file on a tmpfs takes whole pages."""
    (root / "@ballast").unlink(missing_ok=True)
    with open(root / "@ballast", "wb", buffering=0) as file:
        try:
            while file.write(b"x" * PAGE_BYTES):
                pass
        except OSError:
            pass
        file.truncate(max(0, file.tell() - free_pages * PAGE_BYTES))


def ids(root: Path) -> list[str]:
    return [name for name in os.listdir(root) if not name.startswith("@")]


def call(box: Box, root: Path, *words: object) -> Result:
    return box.runtime.spawn(*words, root=root).finish_reaping()


@pytest.mark.slow
@in_child(private_mounts)
def test_full_state_directory(box: Box) -> None:
    """security 6, ENOSPC: create fails closed at each of its writes; state, kill and delete need no free byte."""
    root = small_root(box, "1m")
    bundle = box.bundle(fresh_spec("probe", "park"))
    id = box.new_id()
    refused = 0
    for free_pages in range(20):
        fill(root, free_pages)
        result = call(box, root, "create", "--bundle", bundle, id)
        if result.code == 0:
            break
        refused += 1
        assert "ENOSPC" in result.err and len(result.err.splitlines()) == 1, result
        assert ids(root) == [] and os.listdir(root / "@tmp") == [], result
        assert leaks.settle(lambda: leaks.find(box.token, id, root, str(root))) == [], result
    assert refused >= 4
    call(box, root, "start", id).ok()
    fill(root, 0)
    assert call(box, root, "state", id).ok().json()["status"] == "running"
    call(box, root, "kill", id, "KILL").ok()
    call(box, root, "delete", id).ok()
    assert ids(root) == []
    assert leaks.settle(lambda: leaks.find(box.token, id, root, str(root))) == []


@pytest.mark.slow
@in_child(private_mounts)
def test_foreground_run_with_no_room_for_its_end(box: Box) -> None:
    """lifecycle 17, 92: the key `exit` is a comfort; without room for it the code is the program's all the same."""
    root = small_root(box, "1m")
    bundle = box.bundle(fresh_spec("sh", "-c", "read x; exit 7"))
    id = box.new_id()
    reading, writing = os.pipe()
    running = box.runtime.spawn("run", "--keep", "--bundle", bundle, id, root=root, stdin=reading)
    os.close(reading)
    host.eventually(lambda: box.runtime.call("state", id, root=root).out.count("running"))
    fill(root, 0)
    os.close(writing)
    assert running.finish_reaping().code == 7
    assert call(box, root, "state", id).ok().json()["status"] == "stopped"
    call(box, root, "delete", id).ok()


@pytest.mark.slow
@in_child(private_mounts)
def test_read_only_state_directory(box: Box) -> None:
    """security 6: create refuses; state and kill work; delete says why it cannot, and can be repeated."""
    root = small_root(box, "1m")
    bundle = box.bundle(fresh_spec("probe", "park"))
    id = box.new_id()
    call(box, root, "run", "--detach", "--bundle", bundle, id).ok()
    host.mount("none", root, "", host.MS_REMOUNT | host.MS_RDONLY, "size=1m,mode=700")
    call(box, root, "create", "--bundle", bundle, box.new_id()).failed().says("EROFS")
    assert call(box, root, "state", id).ok().json()["status"] == "running"
    call(box, root, "kill", id, "KILL").ok()
    call(box, root, "delete", id).failed().says("EROFS")
    host.mount("none", root, "", host.MS_REMOUNT, "size=1m,mode=700")
    call(box, root, "delete", id).ok()
    assert leaks.settle(lambda: leaks.find(box.token, id, root, str(root))) == []


# --- facts that are not ours

def _record(change: Callable[[dict], object]) -> Callable[[Path], object]:
    def damage(directory: Path) -> None:
        record = json.loads((directory / "state").read_text())
        change(record)
        (directory / "state").write_text(json.dumps(record))

    return damage


def _key(name: str, value: object) -> Callable[[Path], object]:
    return lambda directory: (directory / name).write_text(json.dumps(value))


def _all_gone(directory: Path) -> None:
    for name in ("resources", "spec", "state"):
        (directory / name).write_bytes(b"")


DAMAGES = {
    "a later isolation": _record(lambda record: record.update(Isolation="quantum")),
    "creator without a start time": _record(lambda record: record.update(Creator={"pid": 1})),
    "creator a number": _record(lambda record: record.update(Creator=5)),
    "hooks a list": _record(lambda record: record.update(Hooks=[])),
    "id a number": _record(lambda record: record.update(ID=5)),
    "pid text": _key("pid", {"pid": "1", "start": 1}),
    "pid a bool": _key("pid", {"pid": True, "start": 1}),
    "journal of a later kind": _key("resources", [{"kind": "moon"}]),
    "journal without a cgroup": _key("resources", []),
    "journal of numbers": _key("resources", [1, 2]),
    "a cgroup anywhere": _key("resources", [{"kind": "cgroup", "cgroup": {"kind": "v1", "paths": {"pids": "../.."}, "made": []}}]),
    "exit cut short": lambda directory: (directory / "exit").write_text('{"code'),
    "state, spec and journal empty": _all_gone,
    "directory of another user": lambda directory: os.chown(directory, 1000, 1000),
    "directory open to all": lambda directory: os.chmod(directory, 0o777),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGES)
def test_damaged_facts(box: Box, what: str) -> None:
    """security 8, stored state: refused in one plain line by whoever needs them; delete --force ends and removes all."""
    container = box.parked(fresh_spec())
    directory = box.runtime.root / container.id
    DAMAGES[what](directory)
    said = 0
    for verb in ("state", "start", "pause", "resume", "ps", "kill", "delete"):
        result = container.verb(verb)
        assert "internal error" not in result.err and "Traceback" not in result.err, result
        assert len(result.err.splitlines()) == (1 if result.code else 0), result
        said += result.code != 0
    assert said >= 2
    assert box.runtime.call("list").code == 0
    box.runtime.spawn("delete", "--force", container.id).finish_reaping().ok()
    assert not directory.exists()
    if "directory" in what:
        # What others could have written decides nothing: neither who is killed nor what is removed.
        os.kill(container.pid, signal.SIGKILL)
        host.wait_exit(container.pid)
        leaks.reap()
        leaks.remove(box.token, container.id, box.runtime.root)


def test_a_namesake_cgroup_is_not_killed_without_a_journal(box: Box) -> None:
    """lifecycle 121: with nothing on record a cgroup with the container's name and foreign processes stays."""
    container = box.parked(fresh_spec())
    container.end()
    cgroups = leaks.cgroups(box.token, container.id)
    victim = os.fork()
    if victim == 0:
        signal.pause()
    try:
        for cgroup in cgroups:
            (cgroup / "cgroup.procs").write_text(str(victim))
        for name in ("resources", "state"):
            (box.runtime.root / container.id / name).write_bytes(b"")
        container.delete("--force").ok()
        assert os.waitpid(victim, os.WNOHANG) == (0, 0)
    finally:
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        for cgroup in cgroups:
            host.eventually(lambda cgroup=cgroup: _removed(cgroup))


def _removed(cgroup: Path) -> bool:
    try:
        cgroup.rmdir()
    except OSError:
        return False
    return True
