"""What goes wrong: shims that are killed, a containerd that is away, hooks and programs that hang."""

import os
import signal
import time
from pathlib import Path

import pytest
from support import host, leaks
from support.containerd import RpcFailure


def kill_shim(box, client) -> None:
    pid = box.shim(client)
    os.kill(pid, signal.SIGKILL)
    host.wait_exit(pid)
    client.close()


def in_created(box):
    return box.created("sleep", "1000")


def in_running(box):
    return box.running("sh", "-c", "sleep 1000 & exec sleep 1000")


def in_paused(box):
    client, id = box.running("sleep", "1000")
    client.call("Pause", id=id)
    return client, id


def in_exec(box):
    client, id = box.running("sleep", "1000")
    box.exec(client, id, "sleep", "1000")
    return client, id


def in_ended(box):
    client, id = box.running("true")
    client.call("Wait", id=id)
    return client, id


@pytest.mark.parametrize("state", [in_created, in_running, in_paused, in_exec, in_ended])
@pytest.mark.parametrize("mounted", [False, True])
def test_a_killed_shim(box, state, mounted):
    """The delete action finds everything on disk; the box finds that nothing is left."""
    client, id = state(box)
    if mounted:
        host.mount("tmpfs", box.path(id) / "rootfs", "tmpfs")
    pid = client.call("State", id=id)["pid"]
    kill_shim(box, client)
    deleted = box.containerd.delete(id)
    assert deleted["exit_status"] == 137 and deleted["pid"] in (0, pid)
    # Init ends when its execs are reaped, which is ours now.
    host.eventually(lambda: leaks.reap() or leaks.is_dead(pid))
    assert not [row for row in host.mountinfo() if str(box.path(id)) in row["point"]]
    box.containerd.delete(id)


def test_a_killed_shim_of_a_pod(box):
    """A new shim takes the pod's address; the old containers are the delete action's."""
    group = {"io.containerd.runc.v2.group": "g"}
    lives = [box.running("sleep", "1000", annotations=group) for _ in range(3)]
    kill_shim(box, lives[0][0])
    client, id = box.running("sleep", "1000", annotations=group)
    with pytest.raises(RpcFailure) as caught:
        client.call("State", id=lives[0][1])
    assert caught.value.code == 5
    for _, old in lives:
        box.containerd.delete(old)
    assert client.call("State", id=id)["status"] == 2
    box.end(client, id)


@pytest.mark.parametrize("delay_ms", [0, 3, 6, 10, 15, 25])
def test_a_shim_killed_while_it_creates(box, delay_ms):
    id = box.bundle("sleep", "1000")
    client = box.start(id)
    pid = box.shim(client)
    client.send("Create", {"id": id, "bundle": str(box.path(id))})
    time.sleep(delay_ms / 1000)
    os.kill(pid, signal.SIGKILL)
    host.wait_exit(pid)
    box.containerd.delete(id)


def test_events_while_containerd_is_away(box):
    """None is lost, and their order holds."""
    client, id = box.running("sleep", "1000")
    box.events.wait("/tasks/start", container_id=id)
    box.events.stop()
    for n in range(5):
        box.exec(client, id, "sh", "-c", f"exit {n}", exec_id=f"e{n}")
        client.call("Wait", id=id, exec_id=f"e{n}")
    client.call("Kill", id=id, signal=9)
    assert client.call("Wait", id=id)["exit_status"] == 137  # nobody waits for events
    box.events.start()
    box.events.wait("/tasks/exit", id=id, timeout_s=15)
    names = box.events.topics()
    assert names == ["create", "start", *["exec-added", "exec-started", "exit"] * 5, "exit"]
    assert [e["exit_status"] for t, e in box.events.received if t == "/tasks/exit"] == [*range(5), 137]
    stamps = [(e["timestamp"]["seconds"], e["timestamp"]["nanos"]) for e in box.events.envelopes]
    assert stamps == sorted(stamps)
    assert {e["namespace"] for e in box.events.envelopes} == {box.token}
    box.end(client, id)


def test_events_that_are_refused_come_again(box):
    box.events.refuse = 2
    client, id = box.running("true")
    client.call("Wait", id=id)
    box.events.wait("/tasks/exit", id=id, timeout_s=15)
    assert box.events.topics() == ["create", "start", "exit"]
    box.end(client, id)


def test_the_end_never_comes_before_the_start(box):
    group = {"io.containerd.runc.v2.group": "g"}
    client, first = box.running("sleep", "1000", annotations=group)
    for _ in range(15):
        id = box.bundle("true", annotations=group)
        box.containerd.start(id)
        client.call("Create", id=id, bundle=str(box.path(id)))
        client.call("Start", id=id)
        client.call("Wait", id=id)
        client.call("Delete", id=id)
        topics = [topic for topic, event in box.events.received if event["container_id"] == id]
        box.events.wait("/tasks/delete", container_id=id)
        topics = [topic for topic, event in box.events.received if event["container_id"] == id]
        assert topics == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
    box.end(client, first)


def test_out_of_memory(box):
    if "memory" not in host.cgroup_mounts():
        pytest.skip("the cgroup controller memory is not to be had")
    linux = {"resources": {"memory": {"limit": 16 << 20}}}
    id = box.bundle("sh", "-c", "exec tail /dev/zero", linux=linux)
    client = box.start(id)
    client.call("Create", id=id, bundle=str(box.path(id)))
    client.call("Start", id=id)
    assert client.call("Wait", id=id)["exit_status"] == 137
    assert box.events.topics()[:3] == ["create", "start", "oom"]  # told already, before the end is
    assert box.events.received[2][1] == {"container_id": id}
    box.end(client, id)


def hook(box, name: str, script: str) -> dict:
    path = box.top / "hook"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {name: [{"path": str(path)}]}


@pytest.mark.parametrize("name", ["createRuntime", "startContainer", "poststart"])
def test_a_hook_that_hangs_holds_nobody_else_up(box, name):
    """State, Kill, Create and Delete of the others are answered meanwhile; at the caller's deadline all is undone."""
    group = {"io.containerd.runc.v2.group": "g"}
    client, other = box.running("sleep", "1000", annotations=group)
    script = "exec sleep 1000" if name != "startContainer" else "while :; do sleep 1; done"
    hooks = hook(box, name, script)
    id = box.bundle("sleep", "1000", annotations=group, hooks=hooks)
    if name == "startContainer":
        hooks[name][0] = {"path": "/bin/sleep", "args": ["sleep", "1000"]}
        import json

        file = box.path(id) / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "hooks": hooks}))
    box.containerd.start(id)
    create = client.send("Create", {"id": id, "bundle": str(box.path(id))}, timeout_s=4)
    if name == "createRuntime":
        stuck = create
    else:
        client.answer(create)
        stuck = client.send("Start", {"id": id}, timeout_s=4)
    time.sleep(0.2)
    start = time.monotonic()
    assert client.call("State", id=other)["status"] == 2
    box.exec(client, other, "true")
    client.call("Wait", id=other, exec_id="e")
    third = box.bundle("sleep", "1000", annotations=group)
    client.call("Create", id=third, bundle=str(box.path(third)))
    client.call("Kill", id=third, signal=9)
    client.call("Delete", id=third)
    assert time.monotonic() - start < 3 and not client.has_answer(stuck)
    with pytest.raises(RpcFailure) as caught:
        client.answer(stuck)
    assert caught.value.code == 4
    if name == "createRuntime":
        host.eventually(lambda: gone(client, id))
    else:
        client.call("Kill", id=id, signal=9)
        client.call("Wait", id=id)
        host.eventually(lambda: deleted(client, id))
    hanging = [pid for pid in host.descendants() if b"hook" in cmdline(pid)]
    assert not hanging
    box.end(client, other)


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def gone(client, id: str) -> bool:
    try:
        client.call("State", id=id)
    except RpcFailure as failure:
        return failure.code == 5
    return False


def deleted(client, id: str) -> bool:
    try:
        client.call("Delete", id=id)
    except RpcFailure as failure:
        return failure.code == 5
    return True


def test_a_create_that_hangs_can_be_killed(box):
    hooks = hook(box, "createRuntime", "exec sleep 1000")
    id = box.bundle("sleep", "1000", hooks=hooks)
    client = box.start(id)
    stuck = client.send("Create", {"id": id, "bundle": str(box.path(id))})
    host.eventually(lambda: any(b"1000" in cmdline(pid) for pid in host.descendants()))
    client.call("Kill", id=id, signal=9)
    with pytest.raises(RpcFailure):
        client.answer(stuck, 10)
    assert gone(client, id)
    client.call("Shutdown", id=id)


def test_a_killed_maker_leaves_nothing(box):
    """Where a container has hooks a child of the shim makes it; SIGKILL of that is the create's failure, and is cleaned up after."""
    hooks = hook(box, "createRuntime", "exec sleep 1000")
    id = box.bundle("sleep", "1000", hooks=hooks)
    client = box.start(id)
    stuck = client.send("Create", {"id": id, "bundle": str(box.path(id))})
    shim = box.shim(client)

    def maker() -> list[int]:
        found = [pid for pid in host.descendants(shim) if b"launch.py" in cmdline(pid)]
        return found if any(b"1000" in cmdline(pid) for pid in host.descendants(shim)) else []

    host.eventually(maker)
    os.kill(maker()[0], signal.SIGKILL)
    with pytest.raises(RpcFailure) as caught:
        client.answer(stuck, 15)
    assert caught.value.code == 13
    for pid in host.descendants(shim):  # the hook is a program of its own, and nobody's but the host's
        os.kill(pid, signal.SIGKILL)
    assert gone(client, id)
    client.call("Shutdown", id=id)


def test_a_hook_that_fails(box):
    hooks = hook(box, "createRuntime", "echo why; exit 3")
    id = box.bundle("sleep", "1000", hooks=hooks)
    client = box.start(id)
    with pytest.raises(RpcFailure, match="createRuntime hook #0: exit status 3, output: why"):
        client.call("Create", id=id, bundle=str(box.path(id)))
    client.call("Shutdown", id=id)


def test_hooks_in_their_order(box):
    log = box.top / "order"
    script = f'cat > /dev/null; echo "$0 $$" >> {log}'
    hooks = {}
    for name in ("prestart", "createRuntime", "poststart", "poststop"):
        path = box.top / name
        path.write_text(f"#!/bin/sh\n{script.replace('$0', name)}\n")
        path.chmod(0o755)
        hooks[name] = [{"path": str(path)}]
    client, id = box.running("true", hooks=hooks)
    client.call("Wait", id=id)
    assert box.events.topics()[:2] == ["create", "start"]
    box.end(client, id)
    ran = [line.split()[0] for line in log.read_text().splitlines()]
    assert ran == ["prestart", "createRuntime", "poststart", "poststop"]


def test_the_exit_code_of_what_a_child_of_the_shim_made(box):
    """Where a container has hooks a child makes it and ends; the processes become the shim's and their codes are not lost."""
    client, id = box.running("sh", "-c", "sleep 2; exit 9", hooks=hook(box, "createRuntime", "true"))
    box.exec(client, id, "sh", "-c", "exit 8")
    assert client.call("Wait", id=id, exec_id="e")["exit_status"] == 8
    assert client.call("Wait", id=id)["exit_status"] == 9
    box.end(client, id)


def test_orphans_of_a_shared_process_namespace_are_reaped(box):
    namespaces = [{"type": t} for t in ("network", "ipc", "uts", "mount")]
    script = "for n in 1 2 3 4 5; do sh -c 'sleep 0.2 & exit 0'; done; exec sleep 1000"
    client, id = box.running("sh", "-c", script, linux={"namespaces": namespaces})
    shim = box.shim(client)

    def dead() -> list[int]:
        return [pid for pid in host.descendants(shim) if leaks.is_dead(pid)]

    time.sleep(0.6)
    host.eventually(lambda: not dead())
    box.end(client, id)


def test_a_client_that_sends_rubbish_is_alone_with_it(box):
    client, id = box.running("sleep", "1000")
    other = box.containerd.connect(f"unix://{client.sock.getpeername()}")
    other.sock.sendall(os.urandom(100_000))
    other.close()
    assert client.call("State", id=id)["status"] == 2
    box.end(client, id)


def test_many_execs_at_once(box):
    client, id = box.running("sleep", "1000")
    for n in range(20):
        client.call("Exec", id=id, exec_id=f"e{n}", spec=box.process("sh", "-c", f"exit {n}"))
    starts = [client.send("Start", {"id": id, "exec_id": f"e{n}"}) for n in range(20)]
    waits = [client.send("Wait", {"id": id, "exec_id": f"e{n}"}) for n in range(20)]
    assert [client.answer(wait)["exit_status"] for wait in reversed(waits)] == list(reversed(range(20)))
    assert len({client.answer(start)["pid"] for start in starts}) == 20
    box.end(client, id)
