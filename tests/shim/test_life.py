"""The calls of the four containerds, from start to the delete action, and what each answers."""

import os
import signal
import time
from pathlib import Path

import pytest
from support import host
from support.containerd import V2, V3, VERSIONS, RpcFailure

CREATED, RUNNING, STOPPED, PAUSED = 1, 2, 3, 4


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("service", [V2, V3])
def test_a_pod_of_cri(box, version, service):
    """RunPodSandbox, a container, an exec, stop and removal, in the order that CRI calls."""
    sandbox = box.bundle("sleep", "1000", id=f"pod-{box.token[-6:]}")
    cri = {"io.kubernetes.cri.sandbox-id": sandbox}
    set_annotations(box, sandbox, {**cri, "io.kubernetes.cri.container-type": "sandbox"})
    first = box.start(sandbox, service)
    pid = first.call("Create", id=sandbox, bundle=str(box.path(sandbox)))["pid"]
    assert first.call("Connect", id=sandbox)["task_pid"] == pid
    assert first.call("Start", id=sandbox)["pid"] == pid
    waiting = first.send("Wait", {"id": sandbox})
    assert first.call("State", id=sandbox)["status"] == RUNNING

    member = box.bundle("sleep", "1000")
    set_annotations(box, member, {**cri, "io.kubernetes.cri.container-type": "container"})
    second = box.start(member, service)
    assert box.shim(second) == box.shim(first)
    second.call("Create", id=member, bundle=str(box.path(member)))
    second.call("Start", id=member)
    member_waits = second.send("Wait", {"id": member})

    second.call("State", id=member)
    second.call("Exec", id=member, exec_id="e", spec=box.process("sh", "-c", "exit 7"))
    for _ in range(2):
        state = second.call("State", id=member, exec_id="e")
        assert (state["id"], state["exec_id"], state["status"], state["pid"]) == ("e", "e", CREATED, 0)
    early = second.send("Wait", {"id": member, "exec_id": "e"})
    exec_pid = second.call("Start", id=member, exec_id="e")["pid"]
    ended = second.answer(early)
    assert ended["exit_status"] == 7 and abs(ended["exited_at"]["seconds"] - time.time()) < 5
    refused(5, second, "Kill", id=member, exec_id="e", signal=9)
    state = second.call("State", id=member, exec_id="e")
    assert (state["status"], state["exit_status"], state["pid"]) == (STOPPED, 7, exec_pid)
    assert second.call("Delete", id=member, exec_id="e") == {"pid": exec_pid, **ended}
    refused(5, second, "State", id=member, exec_id="e")

    second.call("Kill", id=member, signal=15)  # sleep, pid 1, has no handler: the kernel ignores it
    second.call("Kill", id=member, signal=9)
    assert second.answer(member_waits)["exit_status"] == 137
    refused(5, second, "Kill", id=member, signal=9, all=True)
    assert second.call("Wait", id=member)["exit_status"] == 137
    assert second.call("Delete", id=member)["exit_status"] == 137
    refused(5, second, "Delete", id=member)
    second.call("Shutdown", id=member)  # the sandbox lives: nothing happens
    assert first.call("State", id=sandbox)["status"] == RUNNING
    second.close()
    assert box.containerd.delete(member)["exit_status"] == 137

    first.call("Kill", id=sandbox, signal=9)
    assert first.answer(waiting)["exit_status"] == 137
    first.call("Delete", id=sandbox)
    first.call("Shutdown", id=sandbox)
    box.containerd.delete(sandbox)
    one = [topic for topic, event in box.events.received if event["container_id"] == member]
    names = ["create", "start", "exec-added", "exec-started", "exit", "exit", "delete"]
    assert one == [f"/tasks/{name}" for name in names]


def set_annotations(box, id: str, annotations: dict) -> None:
    import json

    file = box.path(id) / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": annotations}))


def refused(code: int, client, method: str, **request: object) -> str:
    with pytest.raises(RpcFailure) as caught:
        client.call(method, **request)
    assert caught.value.code == code, caught.value
    assert "\n" not in caught.value.message and "Traceback" not in caught.value.message
    return caught.value.message


def test_three_containers_without_cri(box):
    """Grouped by the annotation that containerd's own shim has."""
    group = {"io.containerd.runc.v2.group": "g"}
    lives = [box.running("sleep", "100", annotations=group) for _ in range(3)]
    assert len({box.shim(client) for client, _ in lives}) == 1
    assert len(box.shims()) == 1
    pids = {client.call("State", id=id)["pid"] for client, id in lives}
    assert len(pids) == 3
    for client, id in lives:
        box.end(client, id)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_refusals(box):
    client, id = box.created("sleep", "100")
    bundle = str(box.path(id))
    assert "already exists" in refused(6, client, "Create", id=id, bundle=bundle)
    for method in ("State", "Start", "Delete", "Kill", "Wait", "Pids", "Stats", "Pause", "Exec"):
        more = {"exec_id": "e"} if method == "Exec" else {}
        assert "nothing" in refused(5, client, method, id="nothing", **more)
    assert client.call("Connect", id="nothing")["task_pid"] == 0
    client.call("Exec", id=id, exec_id="e", spec=box.process("true"))
    refused(6, client, "Exec", id=id, exec_id="e", spec=box.process("true"))
    refused(9, client, "Kill", id=id, exec_id="e", signal=9)
    refused(3, client, "Exec", id=id, exec_id="bad", spec={"type_url": "x", "value": b"[]"})
    refused(3, client, "Exec", id=id, exec_id="bad", spec={"type_url": "x", "value": b"{"})
    client.call("Start", id=id)
    refused(9, client, "Start", id=id)
    refused(9, client, "Delete", id=id)
    assert "CRIU" in refused(12, client, "Checkpoint", id=id, path="/tmp/x")
    assert "checkpoint" in refused(12, client, "Create", id="y", bundle=bundle, checkpoint="/x")
    assert "config.json not found" in refused(3, client, "Create", id="z", bundle="/nonexistent")
    client.call("Kill", id=id, signal=9)
    client.call("Wait", id=id)
    refused(9, client, "Start", id=id, exec_id="e")
    refused(9, client, "Exec", id=id, exec_id="late", spec=box.process("true"))
    assert client.call("Delete", id=id, exec_id="e")["pid"] == 0
    box.end(client, id)


def test_what_is_not_implemented(box):
    from skerry.shims.task import messages

    client, id = box.created("sleep", "100")
    for service, method in ((V3, "Events"), (V2, "Nonsense"), ("some.other.Service", "State")):
        with pytest.raises(RpcFailure) as caught:
            client.answer(client.send_raw(service, method, b"", messages.EMPTY))
        assert caught.value.code == 12
    with pytest.raises(RpcFailure) as caught:
        client.answer(client.send_raw(V2, "State", b"\x0a\xff\xff", messages.EMPTY))
    assert caught.value.code == 3
    box.end(client, id)


@pytest.mark.parametrize(
    ("args", "words"),
    [(["/bin/nothing"], "no such file or directory"), (["/etc/passwd"], "permission denied")],
)
def test_a_program_that_cannot_be_run(box, args, words):
    """docker looks for these words. The failed create leaves nothing; the shim serves on."""
    id = box.bundle(*args)
    client = box.start(id)
    with pytest.raises(RpcFailure) as caught:
        client.call("Create", id=id, bundle=str(box.path(id)))
        client.call("Start", id=id)
    assert caught.value.code == 2 and words in caught.value.message
    if client.call("Connect", id=id)["task_pid"]:
        box.end(client, id)
    else:
        client.call("Shutdown", id=id)


def test_exec_of_what_cannot_be_run(box):
    client, id = box.running("sleep", "100")
    client.call("Exec", id=id, exec_id="e", spec=box.process("/bin/nothing"))
    assert "no such file" in refused(2, client, "Start", id=id, exec_id="e")
    client.call("Delete", id=id, exec_id="e")
    assert box.exec(client, id, "true", exec_id="e2")
    assert client.call("Wait", id=id, exec_id="e2")["exit_status"] == 0
    box.end(client, id)


def test_pause_update_pids_stats(box):
    from support.protos import CLASSES

    needs_memory()
    client, id = box.running("sleep", "1000")
    exec_pid = box.exec(client, id, "sleep", "1000")
    listed = client.call("Pids", id=id)["processes"]
    init = client.call("State", id=id)["pid"]
    assert {entry["pid"] for entry in listed} == {init, exec_pid}
    (info,) = [entry["info"] for entry in listed if entry["pid"] == exec_pid]
    assert info == {"type_url": "containerd.runc.v1.ProcessDetails", "value": b"\x0a\x01e"}
    client.call("Pause", id=id)
    assert client.call("State", id=id)["status"] == PAUSED
    refused(9, client, "Pause", id=id)
    client.call("Resume", id=id)
    assert client.call("State", id=id)["status"] == RUNNING
    resources = {"type_url": "x/LinuxResources", "value": b'{"memory": {"limit": 33554432}}'}
    client.call("Update", id=id, resources=resources)
    assert int((host.cgroup_of(init, "memory") / "memory.limit_in_bytes").read_text()) == 32 << 20
    stats = client.call("Stats", id=id)["stats"]
    if stats["type_url"] == "io.containerd.cgroups.v1.Metrics":
        read = CLASSES["MetricsV1"].FromString(stats["value"])
        assert read.memory.usage.limit == 32 << 20 and read.memory.usage.usage > 0
        memory = (host.cgroup_of(init, "memory") / "memory.stat").read_text()
        assert f"total_inactive_file {read.memory.total_inactive_file}" in memory
    else:
        read = CLASSES["MetricsV2"].FromString(stats["value"])
        assert read.memory.usage_limit == 32 << 20
    assert read.pids.current == 2
    box.events.wait("/tasks/paused", container_id=id)
    box.events.wait("/tasks/resumed", container_id=id)
    box.end(client, id)


def needs_memory() -> None:
    if "memory" not in host.cgroup_mounts():
        pytest.skip("the cgroup controller memory is not to be had")


def test_kill_what_is_paused(box):
    client, id = box.running("sleep", "1000")
    client.call("Pause", id=id)
    client.call("Kill", id=id, signal=9)
    assert client.answer(client.send("Wait", {"id": id}), 5)["exit_status"] == 137
    box.end(client, id)


def test_delete_before_start(box):
    client, id = box.created("sleep", "1000")
    deleted = client.call("Delete", id=id)
    assert deleted["exit_status"] == 137
    client.call("Shutdown", id=id)
    box.events.wait("/tasks/delete", container_id=id)
    assert box.events.topics() == ["create", "exit", "delete"]


def test_rootfs_from_mounts(box):
    """The request's mounts are made by the shim, below the bundle, and are gone after delete."""
    id = box.bundle("sh", "-c", "cat /lower /upper")
    top = box.top / "layers"
    for name in ("lower", "upper", "work"):
        (top / name).mkdir(parents=True)
    (box.path(id) / "rootfs").rename(top / "image")
    (box.path(id) / "rootfs").mkdir()
    (top / "lower/lower").write_text("low ")
    (top / "upper/upper").write_text("up")
    options = [f"lowerdir={top}/lower:{top}/image", f"upperdir={top}/upper", f"workdir={top}/work"]
    mount = {"type": "overlay", "source": "overlay", "target": "", "options": options}
    out = box.fifo("out")
    reader = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
    client = box.start(id)
    client.call("Create", id=id, bundle=str(box.path(id)), rootfs=[mount], stdout=str(out))
    rootfs = str(box.path(id) / "rootfs")
    assert [row["kind"] for row in host.mountinfo() if row["point"] == rootfs] == ["overlay"]
    client.call("Start", id=id)
    assert client.call("Wait", id=id)["exit_status"] == 0
    assert os.read(reader, 100) == b"low up"
    os.close(reader)
    assert client.call("Delete", id=id)
    assert not [row for row in host.mountinfo() if row["point"] == rootfs]
    client.call("Shutdown", id=id)
    created = [event for topic, event in box.events.received if topic == "/tasks/create"]
    assert created[0]["rootfs"] == [mount]


def test_failed_create_unmounts(box):
    id = box.bundle("sleep", "1")
    mount = {"type": "tmpfs", "source": "tmpfs", "target": "", "options": ["size=1m"]}
    client = box.start(id)
    refused(2, client, "Create", id=id, bundle=str(box.path(id)), rootfs=[mount])  # an empty root: no program
    assert not [row for row in host.mountinfo() if str(box.path(id)) in row["point"]]
    client.call("Shutdown", id=id)


def test_user_namespace(box):
    maps = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    namespaces = [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "user")]
    linux = {"namespaces": namespaces, "uidMappings": maps, "gidMappings": maps}
    out = box.fifo("out")
    reader = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
    id = box.bundle("sh", "-c", "id -u; sleep 100", linux=linux)
    box.top.chmod(0o755)
    client = box.start(id)
    client.call("Create", id=id, bundle=str(box.path(id)), stdout=str(out))
    pid = client.call("Start", id=id)["pid"]
    host.eventually(lambda: os.read(reader, 10) == b"0\n" if ready(reader) else False)
    assert host.status_of(pid)["Uid"].split()[0] == "100000"
    assert box.exec(client, id, "true")
    assert client.call("Wait", id=id, exec_id="e")["exit_status"] == 0
    os.close(reader)
    box.end(client, id)


def ready(fd: int) -> bool:
    import select

    return bool(select.select([fd], [], [], 0)[0])


def test_shared_process_namespace(box):
    """Init's end takes the rest along, and the exec's end is told before it."""
    namespaces = [{"type": t} for t in ("network", "ipc", "uts", "mount")]
    id = box.bundle("sh", "-c", "sleep 1000 & exec sleep 1000", linux={"namespaces": namespaces})
    client = box.start(id)
    client.call("Create", id=id, bundle=str(box.path(id)))
    pid = client.call("Start", id=id)["pid"]
    box.exec(client, id, "sleep", "1000")
    host.eventually(lambda: len(client.call("Pids", id=id)["processes"]) == 3)
    os.kill(pid, signal.SIGKILL)
    assert client.call("Wait", id=id)["exit_status"] == 137
    box.events.wait("/tasks/exit", id=id)
    assert [event["id"] for topic, event in box.events.received if topic == "/tasks/exit"] == ["e", id]
    assert client.call("Pids", id=id)["processes"] == []
    box.end(client, id)
