"""Deaths at the wrong moment: of containerd, of the shim, of both; nothing is lost, nothing is left."""

import os
import signal
from pathlib import Path

import pytest
from cri_client import EXITED, NOT_FOUND, NOTREADY, READY, RUNNING, parent_of
from events import Events
from grpc_unary import RpcError
from streaming import Streams
from support import host

SLEEP = ("sleep", "inf")
# CRI's own Wait breaks together with the shim, and makes 255 of that if it is quicker than the event.
KILLED = (137, 255)
TALKS = ("sh", "-c", "n=0; while :; do echo $((n+=1)); sleep 0.02; done")


def restart(containerd, level: str = "info") -> None:
    containerd.kill(signal.SIGKILL)
    containerd.start(level)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_containerd_comes_back(containerd, cri, handler, number):
    """What runs goes on, what ended meanwhile is known to have, and every verb works again."""
    pod = cri.pod(handler)
    stays = pod.container(*TALKS).start()
    goes = pod.container("sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.02; done; exit 5").start()
    killed = pod.container(*SLEEP).start()
    shim = pod.shim_pid
    stays.until_logged("3")
    pid, leaving = stays.pid, goes.pid
    victim = killed.pid
    containerd.kill(number)
    os.kill(victim, signal.SIGKILL)
    os.close(os.open(f"/proc/{leaving}/root/tmp/go", os.O_CREAT | os.O_WRONLY))
    for gone in (victim, leaving):
        host.wait_exit(gone)
    containerd.start()

    assert pod.status().state == READY and pod.shim_pid == shim
    assert (stays.status().state, stays.pid) == (RUNNING, pid)
    assert goes.wait() == 5
    assert killed.wait() == 137
    assert stays.out("echo", "again") == "again\n"
    host.eventually(lambda: stays.call("ContainerStats").stats.memory.usage_bytes.value > 0)
    assert pod.container("sh", "-c", "exit 6").start().wait() == 6
    stays.stop()
    assert stays.status().exit_code == 137
    pod.remove()


def test_debug_level(containerd, cri, handler):
    """containerd's debug level is one more flag for the shim; its lines come through a fifo."""
    restart(containerd, "debug")
    try:
        pod = cri.pod(handler)
        assert pod.container("sh", "-c", "exit 3").start().wait() == 3
        words = Path(f"/proc/{pod.shim_pid}/cmdline").read_bytes().split(b"\0")
        assert b"-debug" in words or b"zygote" in words
        pod.remove()
    finally:
        restart(containerd)


def test_output_while_containerd_is_away(containerd, cri, handler):
    """CRI reads the fifos; while nobody does, a program may fill the pipe but not break."""
    pod = cri.pod(handler)
    container = pod.container(*TALKS).start()
    container.until_logged("3")
    restart(containerd)
    last = container.lines()[-1]
    host.eventually(lambda: int(container.lines()[-1]) > int(last) + 5, 10)
    assert container.status().state == RUNNING


@pytest.mark.usefixtures("runc_leaves_sockets")
@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
def test_shim_is_killed(containerd, cri, handler, paused):
    """containerd runs the shim's `delete`: each container ends, with one exit event, 137."""
    pod = cri.pod(handler)
    containers = [pod.container("sh", "-c", "sleep 1000 & wait").start() for _ in range(2)]
    below = host.descendants(pod.shim_pid)
    assert len(below) == 5
    if paused:
        containerd.ctr("tasks", "pause", containers[0].id, namespace="k8s.io")
    with Events(containerd, "k8s.io") as events:
        os.kill(pod.shim_pid, signal.SIGKILL)
        for container in containers:
            assert container.wait() in KILLED
        host.eventually(lambda: pod.status().state == NOTREADY, 20)
        for id in (pod.id, *(c.id for c in containers)):
            found = events.until(id, "exit")
            assert [body["exit_status"] for topic, body in found if topic == "exit"] == [137]
    for pid in below:
        host.wait_exit(pid)
    with pytest.raises(RpcError):
        containers[0].exec("true")
    pod.remove()


@pytest.mark.usefixtures("runc_leaves_sockets")
def test_shim_is_killed_while_an_exec_runs(containerd, cri, handler):
    pod = cri.pod(handler)
    container = pod.container(*SLEEP).start()
    url = container.call("Exec", cmd=["sleep", "7531"], stdout=True).url
    with Streams(url, containerd) as streams:
        host.eventually(lambda: "sleep 7531" in container.out("ps"))
        below = host.descendants(pod.shim_pid)
        os.kill(pod.shim_pid, signal.SIGKILL)
        assert container.wait() in KILLED
        with pytest.raises((EOFError, OSError, ValueError)):
            streams.exit_code()
    for pid in below:
        host.wait_exit(pid)


@pytest.mark.usefixtures("runc_leaves_sockets")
def test_shim_is_killed_with_a_created_container(ctr):
    """A task that was created and never started: the state of a container between the two calls."""
    id, pid = ctr.create("/bin/sleep", "inf")
    assert ctr.status(id) == "CREATED"
    below = host.descendants(parent_of(pid))
    assert pid in below
    os.kill(parent_of(pid), signal.SIGKILL)
    host.eventually(lambda: ctr.status(id) in ("", "STOPPED"), 20)
    for pid in below:
        host.wait_exit(pid)


@pytest.mark.usefixtures("runc_leaves_sockets")
def test_shim_is_killed_while_containerd_is_away(containerd, cri, handler):
    """Found dead at the next start, and cleaned."""
    pod = cri.pod(handler)
    container = pod.container(*SLEEP).start()
    below = host.descendants(pod.shim_pid)
    shim = pod.shim_pid
    containerd.kill(signal.SIGKILL)
    os.kill(shim, signal.SIGKILL)
    host.wait_exit(shim)
    containerd.start()
    host.eventually(lambda: container.status().state == EXITED, 20)
    assert pod.status().state == NOTREADY
    pod.remove()
    for pid in below:
        host.wait_exit(pid)


def test_stopped_shim_harms_no_other_pod(containerd, cri, handler):
    """A shim that does not answer is a matter of its own pod."""
    hung, fine = cri.pod(handler), cri.pod(handler)
    shim = hung.shim_pid
    os.kill(shim, signal.SIGSTOP)
    try:
        container = fine.container(*SLEEP).start()
        assert container.out("echo", "fine") == "fine\n"
        container.stop()
        fine.remove()
    finally:
        os.kill(shim, signal.SIGCONT)
    assert hung.container("true").start().wait() == 0


def test_init_is_gone_and_its_children_hold_the_output(cri, handler):
    """The exit is reported although the pipe is still open in a process that left the group."""
    container = (
        cri.pod(handler).container("sh", "-c", "setsid sleep 6543 & echo ready; exit 4").start()
    )
    assert container.wait() == 4
    with pytest.raises(RpcError):
        container.exec("true")
    container.remove()
    with pytest.raises(RpcError) as raised:
        container.status()
    assert raised.value.code == NOT_FOUND
