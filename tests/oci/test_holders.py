"""What keeps a pod's namespaces: the holder of a sandbox's network, and a sandbox that has no process of its own."""

import json
import os
import signal
from pathlib import Path

import pytest
from support import host
from support.box import Box, Container
from support.runtime import Stream
from support.spec import drop_mount, drop_namespace, fresh_spec, namespace

pytestmark = pytest.mark.skerry_only("decisions 8: holders are skerry's own")

TYPE, ID = "io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"


def pod_spec(box: Box, spec: dict) -> tuple[str, dict]:
    """Make the spec that of a sandbox with an unused id."""
    id = box.new_id()
    spec["annotations"] = {TYPE: "sandbox", ID: id}
    return id, spec


def sandbox(box: Box, *, process: bool = True) -> Container:
    """Create a sandbox."""
    id, spec = pod_spec(box, fresh_spec("probe", "park"))
    if not process:
        del spec["process"]
    return box.create(spec, id=id)


def key(container: Container, name: str) -> object:
    return json.loads((container.box.runtime.root / container.id / name).read_text())


def forge(container: Container, name: str, value: object) -> None:
    (container.box.runtime.root / container.id / name).write_text(json.dumps(value))


def holders(container: Container) -> list[int]:
    """Pids of the holders on record."""
    return [item["pid"] for item in key(container, "resources") if item["kind"] == "holder"]


def network(pid: int) -> str:
    return host.namespaces_of(pid)["net"]


# --- the holder

def test_holder_is_no_process_of_the_container(box: Box) -> None:
    """lifecycle 39, 102, 105: it holds the network and nothing else, and is nowhere reported."""
    container = sandbox(box).start()
    container.stream.until("ready")
    (holder,) = holders(container)
    assert network(holder) == network(container.pid) != network(os.getpid())
    assert {kind for kind, ns in host.namespaces_of(holder).items() if ns != host.namespaces_of("self")[kind]} == {"net"}
    assert container.state()["pid"] == container.pid
    assert container.verb("ps", "-f", "json").ok().json() == [container.pid]
    assert key(container, "netns") == f"/proc/{holder}/ns/net"


def test_holder_has_nothing_of_its_caller(box: Box) -> None:
    """security 6: no descriptor, no directory, no environment, a session of its own."""
    read_end, write_end = os.pipe()
    id, spec = pod_spec(box, fresh_spec("probe", "park"))
    container = box.create(spec, id=id, stdout=write_end, pass_fds=(write_end,), env={"SECRET": "x"}, cwd=box.bundle(spec))
    (holder,) = holders(container)
    host.eventually(lambda: os.listdir(f"/proc/{holder}/fd") == [])  # its own two go last, after create's last word
    assert os.readlink(f"/proc/{holder}/cwd") == "/"
    assert Path(f"/proc/{holder}/environ").read_bytes() == b""
    assert os.getsid(holder) == holder
    assert os.readlink(f"/proc/{holder}/exe").startswith("/memfd:")
    container.delete().ok()
    os.close(write_end)
    stream = Stream(read_end)
    assert stream.rest() == ""
    stream.close()


def test_holder_goes_with_delete(box: Box) -> None:
    """lifecycle 39, 118."""
    container = sandbox(box)
    (holder,) = holders(container)
    container.end()
    assert container.status == "stopped"
    assert network(holder)
    container.delete().ok()
    host.wait_exit(holder, 0)


@pytest.mark.parametrize("words", [("KILL",), ("TERM",)])
def test_kill_all_spares_the_holder(box: Box, words: tuple[str, ...]) -> None:
    """lifecycle 39, 106: --all means the container's processes."""
    container = sandbox(box).start()
    container.stream.until("ready")
    (holder,) = holders(container)
    box.runtime.call("kill", "--all", container.id, *words).ok()
    container.wait()
    box.runtime.call("kill", "--all", container.id, *words).ok()
    assert network(holder)


def test_holder_of_a_failed_create_goes(box: Box) -> None:
    """lifecycle 39, 52, 54: it exists when the pid file cannot be written."""
    id, spec = pod_spec(box, fresh_spec())
    result = box.runtime.call("create", "--bundle", box.bundle(spec), "--pid-file", box.dir / "no/pid", id)
    result.failed().says("pid file")
    assert box.leftovers() == []


def test_holder_that_somebody_killed(box: Box) -> None:
    """lifecycle 37, 118: a network that is gone is said so, and delete has nothing to do."""
    container = sandbox(box).start()
    os.kill(holders(container)[0], signal.SIGKILL)
    text = f"cannot share the network of container {container.id}"
    box.try_create(fresh_spec(), "--network-from", container.id).failed().says(text)
    container.delete("--force").ok()


def test_only_a_sandbox_with_a_network_of_its_own_has_a_holder(box: Box) -> None:
    """lifecycle 38, 39."""
    standalone = box.parked(fresh_spec())
    assert holders(standalone) == []
    assert key(standalone, "netns") == f"/proc/{standalone.pid}/ns/net"
    id, spec = pod_spec(box, fresh_spec())
    path = f"/proc/{standalone.pid}/ns/net"
    namespace(spec, "network", path)
    joined = box.create(spec, id=id)
    assert holders(joined) == []
    assert key(joined, "netns") == path


def test_network_of_the_host(box: Box) -> None:
    """lifecycle 15, 38: no network namespace in the spec, no key."""
    spec = fresh_spec("probe", "park")
    drop_namespace(spec, "network")
    drop_mount(spec, "/sys", "/sys/fs/cgroup")
    container = box.create(spec)
    assert network(container.pid) == network(os.getpid())
    assert not (box.runtime.root / container.id / "netns").exists()


def test_network_that_went_with_its_init(box: Box) -> None:
    """lifecycle 39: only a sandbox's is kept."""
    container = box.parked(fresh_spec())
    container.end()
    text = f"cannot share the network of container {container.id}: its init has ended"
    box.try_create(fresh_spec(), "--network-from", container.id).failed().says(text)
    container.delete().ok()
    assert box.leftovers() == []


def test_network_is_not_taken_from_a_recycled_pid(box: Box) -> None:
    """lifecycle 14, 37: whoever has the number by now is another process, perhaps in the host's network."""
    container = box.parked(fresh_spec())
    whole = key(container, "pid")
    forge(container, "pid", {**whole, "start": whole["start"] - 1})
    box.try_create(fresh_spec(), "--network-from", container.id).failed().says("its init has ended")
    forge(container, "pid", whole)


def test_new_network_has_its_loopback_up(box: Box) -> None:
    """lifecycle 38: the namespace that members will share is ready to be used."""
    container = sandbox(box)
    result = box.run(fresh_spec("ip", "addr", "show", "lo"), "--network-from", container.id).ok()
    assert "127.0.0.1" in result.out and "UP" in result.out


@pytest.mark.parametrize("name", ["cni", "netns", "default"])
def test_sandboxes_come_and_go_on_one_namespace(box: Box, name: str) -> None:
    """lifecycle 149: nothing is remembered of it; a root and an id named as others name such files are fine."""
    keeper = box.parked(fresh_spec())
    root = box.dir / name
    for _ in range(2):
        spec = fresh_spec()
        spec["linux"]["cgroupsPath"] = box.cgroup_path()
        spec["annotations"] = {TYPE: "sandbox", ID: "cni"}
        namespace(spec, "network", f"/proc/{keeper.pid}/ns/net")
        box.runtime.call("create", "--bundle", box.bundle(spec), "cni", root=root).ok()
        assert box.runtime.call("list", "-q", root=root).ok().lines == ["cni"]
        box.runtime.call("delete", "cni", root=root).ok()
    assert [entry for entry in os.listdir(root) if not entry.startswith("@")] == []


# --- a sandbox without a process

def test_life_of_a_sandbox_without_a_process(box: Box) -> None:
    """lifecycle 91: created, running, stopped by TERM, deleted; the pid is of what holds its namespaces."""
    container = sandbox(box, process=False)
    assert container.status == "created"
    container.start()
    state = container.state()
    assert (state["status"], state["pid"]) == ("running", container.pid)
    assert container.verb("ps", "-f", "json").ok().json() == [container.pid]
    container.verb("start").failed().says("cannot start an already running container")
    container.delete().failed().says("is not stopped: running")
    container.kill("TERM")
    assert container.wait() == 0
    assert container.status == "stopped"
    container.verb("start").failed().says("cannot start a container that has stopped")
    container.delete().ok()
    assert box.leftovers() == []


def test_it_holds_nothing_of_its_caller(box: Box) -> None:
    """lifecycle 62, 91: who reads its output sees the end of it at the start."""
    container = sandbox(box, process=False).start()
    assert container.stream.rest() == ""
    assert os.listdir(f"/proc/{container.pid}/fd") == []
    assert container.status == "running"


@pytest.mark.parametrize("signal_", ["KILL", "INT"])
def test_signals_that_end_it(box: Box, signal_: str) -> None:
    """lifecycle 91, 108."""
    container = sandbox(box, process=False).start()
    container.kill("HUP")
    container.kill("USR1")
    assert container.status == "running"
    container.kill(signal_)
    container.wait()
    assert container.status == "stopped"


def test_created_one_is_stopped_by_term(box: Box) -> None:
    """lifecycle 91, decisions 5."""
    container = sandbox(box, process=False)
    container.kill("TERM")
    container.wait(2)
    assert container.status == "stopped"


@pytest.mark.parametrize("status", ["created", "running", "paused"])
def test_force_delete_of_it(box: Box, status: str) -> None:
    """lifecycle 91, 112."""
    container = sandbox(box, process=False)
    if status != "created":
        container.start()
    if status == "paused":
        container.verb("pause").ok()
    assert container.status == status
    container.delete("--force").ok()
    assert box.leftovers() == []


def test_members_share_its_namespaces(box: Box) -> None:
    """lifecycle 37, 91: by path as CRI engines do, and by id."""
    first = sandbox(box, process=False).start()
    spec = fresh_spec("probe", "park")
    for kind in ("network", "ipc", "uts"):
        name = {"network": "net"}.get(kind, kind)
        namespace(spec, kind, f"/proc/{first.pid}/ns/{name}")
    spec["annotations"] = {TYPE: "container", ID: first.id}
    del spec["hostname"]
    member = box.create(spec).start()
    member.stream.until("ready")
    theirs, its = host.namespaces_of(member.pid), host.namespaces_of(first.pid)
    assert {kind: theirs[kind] for kind in ("net", "ipc", "uts")} == {kind: its[kind] for kind in ("net", "ipc", "uts")}
    assert key(member, "state")["SandboxID"] == first.id
    other = box.parked(fresh_spec(), "--network-from", first.id)
    assert network(other.pid) == network(first.pid)


def test_its_network_outlives_it(box: Box) -> None:
    """lifecycle 39, 91."""
    container = sandbox(box, process=False).start()
    there = network(container.pid)
    container.end()
    assert network(box.parked(fresh_spec(), "--network-from", container.id).pid) == there


def test_shared_pid_namespace_is_reaped(box: Box) -> None:
    """decisions 8: it is pid 1 of the pod, so orphans of the members are its to reap."""
    first = sandbox(box, process=False).start()
    spec = fresh_spec("sh", "-c", "(true & exec true) & wait; echo up; exec probe park")
    namespace(spec, "pid", f"/proc/{first.pid}/ns/pid")
    member = box.create(spec).start()
    member.stream.until("ready")
    host.eventually(lambda: not Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split())


def test_hooks_of_it(box: Box) -> None:
    """lifecycle 91, 129: all but startContainer, which nothing would follow."""
    id, spec = pod_spec(box, fresh_spec())
    del spec["process"]
    names = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    spec["hooks"] = {
        name: [{"path": "/bin/sh", "args": ["sh", "-c", f"cat >/dev/null; echo {name} >> {box.dir}/trace"]}] for name in names
    }
    container = box.create(spec, id=id).start()
    container.delete("--force").ok()
    words = (box.dir / "trace").read_text().split()
    assert words == [name for name in names if name != "startContainer"]


def test_run_of_it(box: Box) -> None:
    """lifecycle 91, 92: in the foreground until a signal that is passed on ends it."""
    id, spec = pod_spec(box, fresh_spec())
    del spec["process"]
    running = box.spawn_run(spec, id=id)
    host.eventually(lambda: '"running"' in box.runtime.call("state", id).out, 10)
    running.signal(signal.SIGTERM)
    assert running.finish_reaping().code == 0
    assert box.leftovers() == []


def test_exec_in_it(box: Box) -> None:
    """lifecycle 91, 97: there is no process to take over, so it must be told whole."""
    container = sandbox(box, process=False).start()
    container.exec("hostname").failed(255).says("cwd")
    document = box.dir / "process.json"
    document.write_text(json.dumps(fresh_spec("hostname")["process"]))
    assert box.runtime.call("exec", "--process", document, container.id).ok().out == "box\n"
