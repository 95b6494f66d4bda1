"""The journal: written before each acquisition, released in reverse, kept where a release failed (lifecycle K, 147, 148, 156)."""

import json
import os
import signal
from pathlib import Path

import pytest
from support import host, leaks
from support.box import Box, Container
from support.forked import in_child, private_mounts
from support.spec import fresh_spec

from skerry.container import Container as Core
from skerry.container import open_store
from skerry.errors import EngineError, ReleaseError
from skerry.native import release
from skerry.native.cgroup import tree
from skerry.state.journal import Journal
from skerry.state.store import Store


def sandbox(box: Box) -> tuple[dict, str]:
    """A spec that makes a holder too, and its id."""
    id = box.new_id()
    spec = fresh_spec("probe", "park")
    spec["annotations"] = {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": id}
    return spec, id


def journal_of(container: Container) -> list[dict]:
    return json.loads((container.box.runtime.root / container.id / "resources").read_text())


def load(container: Container) -> Core:
    return Core.load(open_store(str(container.box.runtime.root)), container.id)


def make_read_only(cgroups: list[Path]) -> None:
    """In this mount namespace nothing can be removed from these hierarchies: rmdir says EROFS."""
    for mount in {mount for mount in host.cgroup_mounts().values() if any(mount in path.parents for path in cgroups)}:
        host.mount("none", mount, "", host.MS_REMOUNT | host.MS_BIND | host.MS_RDONLY)


def make_writable() -> None:
    for mount in set(host.cgroup_mounts().values()):
        host.mount("none", mount, "", host.MS_REMOUNT | host.MS_BIND)


def test_all_items_are_on_record(box: Box) -> None:
    """lifecycle 118, 147: read back from another process: everything is there, in order of acquisition."""
    spec, id = sandbox(box)
    container = box.create(spec, id=id)
    items = journal_of(container)
    assert [item["kind"] for item in items] == ["cgroup", "process", "holder"]
    assert set(items[0]["cgroup"]["made"]) >= {str(path) for path in leaks.cgroups(box.token, id)}
    assert items[1]["pid"] == container.pid
    for item in items[1:]:
        stat = Path(f"/proc/{item['pid']}/stat").read_text().rpartition(")")[2].split()
        assert item["start"] == int(stat[19])


def test_nothing_is_made_before_it_is_on_record(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """lifecycle 42, 118: at each write of the journal, what it is about to name does not exist or waits for our word."""
    spec, id = sandbox(box)
    seen: list[str] = []
    save = Journal.save

    def watched(self: Journal) -> None:
        kinds = [item["kind"] for item in self.items]
        if len(seen) < 1:
            assert leaks.cgroups(box.token, id) == []
        for item in self.items[1:]:
            # Blocked in its first read: it has made nothing yet. (`process` is replaced when the next one is there.)
            assert item["kind"] != "holder" or Path(f"/proc/{item['pid']}/comm").read_text().strip() != "sleep"
        seen.append(" ".join(kinds))
        save(self)

    null = os.open("/dev/null", os.O_RDWR)
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "save", watched)
        store = open_store(str(box.runtime.root))
        made = Core.create(store, id, bundle=str(box.bundle(spec)), stdio=(null, null, null))
    os.close(null)
    os.close(made._pidfd)
    assert seen == ["cgroup process", "cgroup process", "cgroup process holder"] or host.is_v2()


def test_release_runs_in_reverse(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """lifecycle 119."""
    spec, id = sandbox(box)
    container = box.create(spec, id=id)
    order: list[str] = []
    for kind, function in release.ITEMS.items():
        monkeypatch.setitem(
            release.ITEMS, kind, lambda item, function=function: (order.append(item["kind"]), function(item))
        )
    load(container).delete()
    assert order == ["holder", "process", "cgroup"]
    leaks.reap()


def test_what_is_gone_already_is_released(box: Box) -> None:
    """lifecycle 118: processes dead, cgroups removed by somebody: delete succeeds."""
    spec, id = sandbox(box)
    container = box.create(spec, id=id)
    for item in journal_of(container)[1:]:
        os.kill(item["pid"], signal.SIGKILL)
        host.wait_exit(item["pid"])
    leaks.reap()
    for cgroup in leaks.cgroups(box.token, id):
        cgroup.rmdir()
    container.delete().ok()
    container.delete("--force").ok()


@pytest.mark.slow
@in_child(private_mounts)
def test_a_failed_release_stays_on_record(box: Box) -> None:
    """lifecycle 119, 120, 148, 156: the others are released, the id stays as stopped, and delete can be repeated, also
    from another process, until the cause is gone."""
    spec, id = sandbox(box)
    container = box.create(spec, id=id)
    holder = journal_of(container)[2]["pid"]
    container.start()
    container.end()
    cgroups = leaks.cgroups(box.token, id)
    make_read_only(cgroups)
    for _ in range(2):
        result = container.delete().failed()
        assert result.message.startswith("failed to release one or more container resources: "), result
        assert "EROFS" in result.message, result
        assert [item["kind"] for item in journal_of(container)] == ["cgroup"]
        host.wait_exit(holder)
        assert container.status == "stopped"
        assert id in box.runtime.call("list", "-q").ok().lines
        assert leaks.cgroups(box.token, id) == cgroups
    make_writable()
    container.delete().ok()
    assert leaks.cgroups(box.token, id) == []


@pytest.mark.slow
@in_child(private_mounts)
def test_a_failed_release_in_the_library(box: Box) -> None:
    """lifecycle 148: the second try of the same object is as good as the first of another."""
    container = box.create(fresh_spec())
    container.end()
    core = load(container)
    make_read_only(leaks.cgroups(box.token, container.id))
    with pytest.raises(ReleaseError) as caught:
        core.delete()
    assert len(caught.value.causes) == 1
    make_writable()
    core.delete()
    container.delete().failed().says("does not exist")


def test_foreign_processes_in_the_cgroup_go_with_it(box: Box) -> None:
    """As in runc and crun: the cgroup is the container's, whoever was put into it."""
    container = box.parked(fresh_spec())
    container.end()
    child = os.fork()
    if child == 0:
        signal.pause()
    for cgroup in leaks.cgroups(box.token, container.id):
        (cgroup / "cgroup.procs").write_text(str(child))
    container.delete().ok()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_cgroups_that_were_there_before_stay(box: Box) -> None:
    """lifecycle 121: an existing parent and an existing leaf stay; what was made between goes."""
    path = box.cgroup_path()
    mounts = set(host.cgroup_mounts().values())
    spec = fresh_spec("probe", "park")
    spec["linux"]["cgroupsPath"] = f"{path}/between/leaf"
    try:
        for mount in mounts:
            (mount / path[1:]).mkdir(parents=True)
        box.parked(spec).delete("--force").ok()
        assert all(os.listdir(mount / path[1:]) and not (mount / path[1:] / "between").exists() for mount in mounts)
        for mount in mounts:
            (mount / path[1:] / "between/leaf").mkdir(parents=True)
            _prepare_cpuset(mount / path[1:] / "between/leaf")
        box.parked(spec).delete("--force").ok()
        assert all((mount / path[1:] / "between/leaf").exists() for mount in mounts)
    finally:
        for mount in mounts:
            for part in ("between/leaf", "between", ""):
                directory = mount / path[1:] / part
                if directory.exists():
                    directory.rmdir()


def _prepare_cpuset(leaf: Path) -> None:
    """A new v1 cpuset is empty, and whoever made it ahead of the runtime has filled it."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        for path in (leaf.parents[1], leaf.parent, leaf):
            if (path / name).exists() and not (path / name).read_text().strip():
                (path / name).write_text((path.parent / name).read_text())


def test_a_create_that_found_the_cgroup_taken_kills_nobody(box: Box) -> None:
    """lifecycle 121: two containers with one cgroupsPath."""
    spec = fresh_spec("probe", "park")
    spec["linux"]["cgroupsPath"] = box.cgroup_path()
    first = box.parked(spec)
    result = box.try_create(spec).failed().says("container's cgroup is not empty: 1 process(es) found")
    assert len(result.err.splitlines()) == 1, result
    assert first.status == "running"
    assert box.runtime.call("list", "-q").ok().lines == [first.id]


def test_a_cgroup_that_was_never_entered_is_not_killed(box: Box, tmp_path: Path) -> None:
    """lifecycle 121: its creator was killed between the record and the cgroup, and another took the path since."""
    store = Store(str(tmp_path / "root"))
    store.create("x", "state", {})
    victim = box.parked(fresh_spec())
    record = {**journal_of(victim)[0]["cgroup"], "made": []}
    journal = Journal(store, "x", [{"kind": "cgroup", "cgroup": record}])
    release.release_all(journal)
    assert journal.items == []
    assert victim.status == "running"


def test_of_two_makers_of_a_cgroup_the_later_takes_nothing_back(box: Box) -> None:
    """lifecycle 121: both found it missing; the one that lost undoes what it has made, not what the other has."""
    path = box.cgroup_path()
    layout = tree.read_layout()
    first, second = tree.open_cgroup(layout, path, "first"), tree.open_cgroup(layout, path, "second")
    first.create()
    try:
        with pytest.raises(EngineError, match="another process has just made it"):
            second.create()
        second.abandon()
        assert all(Path(leaf).is_dir() for leaf in first.leaves)
    finally:
        first.remove()
