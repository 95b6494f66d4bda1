"""Pods in utility VMs: the same calls, and what of them only a VM makes different.

A VM of a store that is new boots, and takes its time where there is no KVM: so there are few tests, and long ones.
"""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from conftest import VM_SHIM
from support import host, leaks
from support.containerd import RpcFailure

from skerry.shims.task import metrics, protobuf

CREATED, RUNNING, STOPPED, PAUSED = 1, 2, 3, 4
SLOW_S = 120
SERVER = "echo from-$(hostname) | nc -l -p 7000"


@pytest.fixture
def shim() -> Path:
    if not os.access(VM_SHIM, os.X_OK):
        pytest.skip(f"{VM_SHIM} is not built")
    for program in ("qemu-system-x86_64", "mkfs.erofs"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    return VM_SHIM


class Pod:
    """A sandbox and its members below one shim, as CRI makes them."""

    def __init__(self, box, **changes: object) -> None:
        self.box = box
        self.id = box.bundle("sleep", "1000", id=f"pod-{box.token[-6:]}", hostname="pod", **changes)
        self.annotate(self.id, "sandbox")
        self.client = box.start(self.id)
        self.pid = self.slow("Create", id=self.id, bundle=str(box.path(self.id)))["pid"]
        self.slow("Start", id=self.id)

    def slow(self, method: str, **request: object) -> dict:
        return self.client.answer(self.client.send(method, request), SLOW_S)

    def annotate(self, id: str, kind: str) -> None:
        file = self.box.path(id) / "config.json"
        spec = json.loads(file.read_text())
        spec["annotations"] = {"io.kubernetes.cri.sandbox-id": self.id, "io.kubernetes.cri.container-type": kind}
        if kind == "container":
            # CRI names what a member shares by the pid that it has of the sandbox.
            shared = {"network": "net", "ipc": "ipc", "uts": "uts"}
            spec["linux"]["namespaces"] = [
                {"type": e["type"], "path": f"/proc/{self.pid}/ns/{shared[e['type']]}"} if e["type"] in shared else e
                for e in spec["linux"]["namespaces"]
            ]
            spec.pop("hostname", None)
        file.write_text(json.dumps(spec))

    def member(self, *args: str, request: dict | None = None, **changes: object) -> str:
        id = self.box.bundle(*args, **changes)
        self.annotate(id, "container")
        assert self.box.start(id).call("Connect", id="")["shim_pid"] == self.box.shim(self.client)
        self.slow("Create", id=id, bundle=str(self.box.path(id)), **(request or {}))
        return id

    def exec(self, id: str, *args: str, exec_id: str = "e", out: str = "") -> dict:
        """Run to the end; what Delete said of it."""
        request = {"exec_id": exec_id, "stdout": out, "spec": self.box.process(*args)}
        self.client.call("Exec", id=id, **request)
        self.slow("Start", id=id, exec_id=exec_id)
        self.slow("Wait", id=id, exec_id=exec_id)
        return self.slow("Delete", id=id, exec_id=exec_id)

    def kill(self, id: str) -> int:
        self.slow("Kill", id=id, signal=9, all=True)
        return self.slow("Wait", id=id)["exit_status"]

    def status(self, id: str, exec_id: str = "") -> int:
        return self.client.call("State", id=id, exec_id=exec_id)["status"]

    def facts(self, kind: str) -> list[int]:
        """Pids of helpers of the VM."""
        store = Path("/run/containerd/skerry", self.box.token, self.id, "resources")
        return [item["pid"] for item in json.loads(store.read_text()) if item["kind"] == kind]

    def fact(self, kind: str) -> int:
        (pid,) = self.facts(kind)
        return pid

    def end(self) -> None:
        self.slow("Delete", id=self.id)
        self.client.call("Shutdown", id=self.id)

    def topics(self, id: str, last: str) -> list[str]:
        """All that was told of a container, when the last is there."""
        self.box.events.wait(f"/tasks/{last}", container_id=id, timeout_s=SLOW_S)
        events = self.box.events.received
        return [topic.removeprefix("/tasks/") for topic, event in events if event.get("container_id") == id]


def read_until(fd: int, word: bytes) -> bytes:
    data, end = b"", time.monotonic() + SLOW_S
    while word not in data:
        assert time.monotonic() < end, data
        try:
            data += os.read(fd, 65536)
        except BlockingIOError:
            time.sleep(0.02)
    return data


def test_a_pod_with_two_members(box):
    """Everything that a member can be asked, and that the pod's end is that of its VM."""
    pod = Pod(box)
    assert os.readlink(f"/proc/{pod.pid}/ns/pid") == os.readlink("/proc/self/ns/pid")  # it stands for one in the guest
    volume = box.top / "volume"
    volume.mkdir()
    mount = {"destination": "/volume", "source": str(volume), "type": "bind", "options": ["rbind", "rw"]}
    mounts = [*json.loads((box.path(pod.id) / "config.json").read_text())["mounts"], mount]
    out = box.fifo("out")
    reader = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
    server = pod.member("sh", "-c", SERVER, mounts=mounts, request={"stdout": str(out)})
    client = pod.member("sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.1; done", mounts=mounts)
    for id in (server, client):
        assert pod.status(id) == CREATED
        pod.slow("Start", id=id)
    assert pod.status(client) == RUNNING

    # The two speak over localhost, and through a volume of the host's.
    ask = "until nc 127.0.0.1 7000 >/volume/answer 2>/dev/null; do sleep 0.2; done; exit 5"
    done = pod.exec(client, "sh", "-c", ask)
    assert done["exit_status"] == 5
    assert (volume / "answer").read_text() == "from-pod\n"
    assert pod.slow("Wait", id=server)["exit_status"] == 0
    told = pod.exec(client, "sh", "-c", "echo to-the-host; exit 0", exec_id="o", out=str(out))
    assert told["exit_status"] == 0 and read_until(reader, b"to-the-host\n")
    with pytest.raises(RpcFailure, match="no such file|not found|No such file"):
        pod.exec(client, "/nothing", exec_id="n")
    pod.client.call("Delete", id=client, exec_id="n")

    terminal(pod, client)
    figures(pod, client)
    ends(pod, client, server)
    (share,) = pod.facts("virtiofsd")  # both have the volume
    for id in (client, server):
        assert not leaks.is_dead(share)
        pod.slow("Delete", id=id)
        assert not box.containerd.delete(id)["exit_status"] == 0
    assert leaks.is_dead(share) and not pod.facts("virtiofsd")
    qemu = pod.fact("qemu")
    assert pod.kill(pod.id) == 137
    pod.end()
    assert leaks.is_dead(qemu)
    assert pod.topics(pod.id, "delete") == ["create", "start", "exit", "delete"]
    assert pod.topics(server, "delete") == ["create", "start", "exit", "delete"]
    os.close(reader)


def terminal(pod: Pod, id: str) -> None:
    """An exec with a terminal, its size, its end by the end of input."""
    names = {name: pod.box.fifo(f"tty-{name}") for name in ("stdin", "stdout")}
    seen = os.open(names["stdout"], os.O_RDONLY | os.O_NONBLOCK)
    streams = {name: str(path) for name, path in names.items()}
    pod.client.call("Exec", id=id, exec_id="t", terminal=True, spec=pod.box.process("sh", terminal=True), **streams)
    pod.slow("Start", id=id, exec_id="t")
    pids = {entry["pid"] for entry in pod.client.call("Pids", id=id)["processes"]}
    assert {pod.client.call("State", id=id, exec_id=e)["pid"] for e in ("", "t")} == pids
    pod.client.call("ResizePty", id=id, exec_id="t", width=97, height=31)
    typing = os.open(names["stdin"], os.O_WRONLY)
    os.write(typing, b"until stty size | grep '31 97'; do sleep 0.1; done\n")
    read_until(seen, b"31 97\r\n")
    os.write(typing, b"exit 3\n")
    os.close(typing)
    assert pod.slow("Wait", id=id, exec_id="t")["exit_status"] == 3
    pod.slow("Delete", id=id, exec_id="t")
    os.close(seen)


def figures(pod: Pod, id: str) -> None:
    """Pause, resume, limits, and the guest's own figures."""
    pod.slow("Pause", id=id)
    assert pod.status(id) == PAUSED
    pod.slow("Resume", id=id)
    assert pod.status(id) == RUNNING
    limits = {"memory": {"limit": 50 << 20}, "pids": {"limit": 77}}
    pod.slow("Update", id=id, resources={"value": json.dumps(limits).encode()})
    answer = pod.slow("Stats", id=id)["stats"]
    assert answer["type_url"] == metrics.V2
    found = protobuf.decode(metrics.V2_TABLE, answer["value"])
    assert found["memory"]["usage_limit"] == 50 << 20 and found["pids"]["limit"] == 77
    assert 0 < found["memory"]["usage"] < 50 << 20
    assert found["memory"]["anon"] > 0 and found["cpu"]["usage_usec"] > 0 and found["pids"]["current"] >= 1


def ends(pod: Pod, id: str, other: str) -> None:
    """An exec that is killed; one that init takes along; init with a handler; a member that has ended already."""
    for exec_id in ("k", "l"):
        pod.client.call("Exec", id=id, exec_id=exec_id, spec=pod.box.process("sleep", "1000"))
        pod.slow("Start", id=id, exec_id=exec_id)
    pod.slow("Kill", id=id, exec_id="k", signal=9)
    assert pod.slow("Wait", id=id, exec_id="k")["exit_status"] == 137
    pod.slow("Kill", id=id, signal=15)
    assert pod.slow("Wait", id=id)["exit_status"] == 9
    assert pod.client.call("Wait", id=id, exec_id="l")["exit_status"] == 137
    pod.box.events.wait("/tasks/exit", id=id)
    exits = [e["id"] for topic, e in pod.box.events.received if topic == "/tasks/exit" and e["container_id"] == id]
    assert exits[-2:] == ["l", id]
    for dead in (id, other):
        with pytest.raises(RpcFailure) as caught:
            pod.slow("Kill", id=dead, signal=9)
        assert caught.value.code == 5


def test_out_of_memory_and_a_vm_that_is_killed(box):
    """The event of the first comes before its end; all ends of the second are there within a second."""
    pod = Pod(box)
    eater = pod.member(
        "sh", "-c", "x=a; while :; do x=$x$x; done",
        linux={"resources": {"memory": {"limit": 16 << 20}}},
    )  # fmt: skip
    pod.slow("Start", id=eater)
    assert pod.slow("Wait", id=eater)["exit_status"] == 137
    assert pod.topics(eater, "exit")[-2:] == ["oom", "exit"]

    member = pod.member("sleep", "1000")
    pod.slow("Start", id=member)
    pod.client.call("Exec", id=member, exec_id="e", spec=box.process("sleep", "1000"))
    pod.slow("Start", id=member, exec_id="e")
    os.kill(pod.fact("qemu"), signal.SIGKILL)
    begin = time.monotonic()
    for id, exec_id in ((member, "e"), (member, ""), (pod.id, "")):
        assert pod.slow("Wait", id=id, exec_id=exec_id)["exit_status"] == 255
    assert time.monotonic() - begin < 1 + 4 * (os.getloadavg()[0] > 2)  # where others do not keep both processors
    pod.end()  # the owner first: the others are gone with it
    for id in (eater, member):
        pod.slow("Delete", id=id)
    pod.client.call("Shutdown", id=member)


def test_the_delete_action_ends_the_vm_of_a_shim_that_was_killed(box):
    pod = Pod(box)
    member = pod.member("sleep", "1000")
    pod.slow("Start", id=member)
    helpers = [pod.fact("qemu"), pod.fact("vmshim"), pod.pid, pod.client.call("State", id=member)["pid"]]
    os.kill(box.shim(pod.client), signal.SIGKILL)
    for id in (member, pod.id):
        begin = time.monotonic()
        answer = box.containerd.delete(id)
        took = time.monotonic() - begin
        assert answer["exit_status"] == 137 and answer["pid"] in helpers
        # containerd gives it 5 s
        assert took < 5, took
    host.eventually(lambda: all(leaks.is_dead(pid) for pid in helpers))
