"""Pods through CRI, as the kubelet makes them: their lives, processes, logs and figures."""

import os
import signal
import threading
import time

import pytest
from cri_client import CREATED, EXITED, NOT_FOUND, NOTREADY, POD, READY, RUNNING
from grpc_unary import RpcError
from limits import cpu_shares, memory_limit
from streaming import Streams
from support import host

SLEEP = ("sleep", "inf")
# A shell that ends at once when it is asked to, for a program that is pid 1 must ask for that.
POLITE = ("sh", "-c", "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
DEAF = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")


@pytest.mark.parametrize("count", [2, 10])
def test_pod_with_containers(cri, handler, count):
    """They run side by side under one shim, in the pod's network, and end when the pod does."""
    pod = cri.pod(handler)
    assert pod.status().state == READY
    assert pod.status().runtime_handler == handler
    containers = [pod.container("sh", "-c", f"echo {n}; exec sleep inf") for n in range(count)]
    assert {c.status().state for c in containers} == {CREATED}
    for container in containers:
        container.start()
    listed = cri.call("ListContainers", filter={"pod_sandbox_id": pod.id}).containers
    assert sorted((c.id, c.state) for c in listed) == sorted((c.id, RUNNING) for c in containers)

    for number, container in enumerate(containers):
        container.until_logged(str(number))
    addresses = {
        container.out("ip", "-o", "-4", "addr", "show", "eth0") for container in containers
    }
    assert len(addresses) == 1 and pod.status().network.ip in addresses.pop()
    assert {container.out("hostname").strip() for container in containers} == {
        pod.config["hostname"]
    }
    assert (
        len({container.out("readlink", "/proc/self/ns/pid") for container in containers}) == count
    )
    pids = [container.pid for container in containers]
    assert {host.descendants(pod.shim_pid).count(pid) for pid in pids} == {1}, (
        "not all below one shim"
    )

    pod.stop()
    assert pod.status().state == NOTREADY
    assert {(c.status().state, c.status().exit_code) for c in containers} == {(EXITED, 137)}
    assert not [pid for pid in pids if host.descendants(pid)]
    pod.remove()


def test_exec_sync(cri, handler):
    container = (
        cri.pod(handler)
        .container(*SLEEP, envs=[{"key": "WHO", "value": "me"}], working_dir="/tmp")
        .start()
    )
    done = container.exec("sh", "-c", "echo out $WHO $PWD; echo err >&2; exit 5")
    assert (done.stdout, done.stderr, done.exit_code) == (b"out me /tmp\n", b"err\n", 5)
    assert container.exec("sh", "-c", "kill -KILL $$").exit_code == 137
    large = container.exec(
        "sh", "-c", "dd if=/dev/zero bs=1000000 count=3 2>/dev/null | tr '\\0' x"
    )
    assert large.stdout == b"x" * 3_000_000
    with pytest.raises(RpcError) as raised:
        container.exec("nowhere")
    assert (
        "nowhere" in raised.value.message
        and "executable file not found in $PATH" in raised.value.message
    )


def test_exec_sync_has_a_deadline(cri, handler):
    """What outlives its time is killed, and the container goes on."""
    container = cri.pod(handler).container(*SLEEP).start()
    with pytest.raises(RpcError) as raised:
        container.exec("sh", "-c", "exec sleep 1234", timeout=1)
    assert "timeout" in raised.value.message
    assert "sleep 1234" not in container.out("ps")
    assert container.status().state == RUNNING


def test_many_execs_at_once(cri, handler):
    container = cri.pod(handler).container(*SLEEP).start()
    answers = {}

    def run(number: int) -> None:
        mine = cri.clone()
        command = ["sh", "-c", f"echo {number}; exit {number}"]
        answers[number] = mine.call("ExecSync", container_id=container.id, cmd=command, timeout=30)
        mine.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: (a.stdout, a.exit_code) for n, a in answers.items()} == {
        n: (f"{n}\n".encode(), n) for n in range(20)
    }


def test_exec_on_a_terminal(containerd, cri, handler):
    """kubectl exec -it: a stream each way, a window that changes, an exit code."""
    container = cri.pod(handler).container(*SLEEP).start()
    url = container.call("Exec", cmd=["sh"], tty=True, stdin=True, stdout=True).url
    with Streams(url, containerd) as streams:
        streams.resize(101, 33)
        streams.write(b"test -t 0 && tty; echo $((6*7))\n")
        assert b"/dev/pts/0" in streams.read_until(b"42")
        streams.write(
            b"while [ \"$(stty size)\" != '33 101' ]; do sleep 0.05; done; echo new'size'\n"
        )
        streams.read_until(b"newsize")
        streams.write(b"exit 7\n")
        assert streams.exit_code() == 7


def test_exec_with_streams(containerd, cri, handler):
    """kubectl exec -i: input until its end, output and errors apart."""
    container = cri.pod(handler).container(*SLEEP).start()
    command = ["sh", "-c", "read line; echo got $line; echo err >&2"]
    url = container.call("Exec", cmd=command, stdin=True, stdout=True, stderr=True).url
    with Streams(url, containerd) as streams:
        streams.write(b"typed\n")
        assert streams.exit_code() == 0
        assert (bytes(streams.stdout), bytes(streams.stderr)) == (b"got typed\n", b"err\n")


def test_attach_to_a_terminal(containerd, cri, handler):
    container = cri.pod(handler).container("sh", stdin=True, tty=True).start()
    url = container.call("Attach", tty=True, stdin=True, stdout=True).url
    with Streams(url, containerd) as streams:
        streams.write(b"echo $((6*7)); exit 4\n")
        streams.read_until(b"42")
    assert container.wait() == 4


def test_port_forward(containerd, cri, handler):
    pod = cri.pod(handler)
    container = pod.container(
        "nc", "-l", "-p", "8080", "-e", "sh", "-c", "read line; echo back $line"
    ).start()
    host.eventually(lambda: ":1F90" in container.out("cat", "/proc/net/tcp", "/proc/net/tcp6"))
    url = cri.call("PortForward", pod_sandbox_id=pod.id, port=[8080]).url
    with Streams(url, containerd, port=8080) as streams:
        streams.write(b"words\n")
        assert b"back words" in streams.read_until(b"words")


def test_host_port(containerd, cri, handler):
    """The portmap plugin gets the pod's mappings."""
    pod = cri.pod(handler, port_mappings=[{"container_port": 8080, "host_port": 18080}])
    container = pod.container("nc", "-l", "-p", "8080", "-e", "echo", "hello").start()
    host.eventually(lambda: ":1F90" in container.out("cat", "/proc/net/tcp", "/proc/net/tcp6"))
    rules = containerd.run("iptables-save", "-t", "nat")
    assert f"{pod.status().network.ip}:8080" in rules
    pod.remove()
    assert "18080" not in containerd.run("iptables-save", "-t", "nat")


def test_logs(cri, handler):
    """Both streams, whole lines, long ones in parts, what comes last, and no line lost at the end."""
    script = "echo out; echo err >&2; printf 'no newline'; printf '%20000s\\n' x; seq 2000"
    container = cri.pod(handler).container("sh", "-c", script).start()
    assert container.wait() == 0
    assert container.lines("stderr") == ["err"]
    out = container.lines("stdout")
    assert out[0] == "out" and out[-2000:] == [str(n) for n in range(1, 2001)]
    assert "".join(out[1:-2000]) == "no newline" + " " * 19999 + "x"


def test_log_reopened(cri, handler):
    """The kubelet's log rotation."""
    container = (
        cri.pod(handler).container("sh", "-c", "while :; do echo line; sleep 0.05; done").start()
    )
    container.until_logged("line")
    container.log.rename(container.log.with_suffix(".old"))
    container.call("ReopenContainerLog")
    container.until_logged("line")


def test_stats(cri, handler):
    """Figures of the container's own cgroup: a busy loop, and 20 MiB that are held."""
    pod = cri.pod(handler)
    busy = pod.container("sh", "-c", "while :; do :; done").start()
    holding = pod.container(
        "sh",
        "-c",
        "x=$(dd if=/dev/zero bs=1048576 count=20 2>/dev/null | tr '\\0' x); echo held; sleep 1000; :",
    ).start()
    holding.until_logged("held")

    def figures(container):
        return container.call("ContainerStats").stats

    host.eventually(lambda: figures(busy).cpu.usage_core_nano_seconds.value > 50_000_000, 20)
    memory = figures(holding).memory
    assert 20 << 20 <= memory.working_set_bytes.value < 200 << 20
    assert 0 < figures(busy).memory.working_set_bytes.value < 20 << 20
    assert figures(holding).attributes.id == holding.id


def test_restart_by_hand(cri, handler):
    """The kubelet restarts by a new container of the same name and the next attempt."""
    pod = cri.pod(handler)
    for attempt, code in enumerate((1, 0, 9)):
        container = pod.container(
            "sh", "-c", f"echo {attempt}; exit {code}", name="again", attempt=attempt
        ).start()
        assert container.wait() == code
        assert container.lines() == [str(attempt)]
        container.remove()
    assert pod.status().state == READY


def test_stop_with_grace(cri, handler):
    pod = cri.pod(handler)
    polite, deaf = pod.container(*POLITE).start(), pod.container(*DEAF).start()
    for container in (polite, deaf):
        container.until_logged("ready")
    polite.stop(timeout=20)
    assert (polite.status().exit_code, polite.lines()) == (3, ["ready", "bye"])
    begin = time.monotonic()
    deaf.stop(timeout=1)
    assert deaf.status().exit_code == 137
    assert 0.9 < time.monotonic() - begin < 10


def test_stop_at_once(cri, handler):
    container = cri.pod(handler).container(*SLEEP).start()
    container.stop(timeout=0)
    assert (container.status().exit_code, container.status().reason) == (137, "Error")
    container.stop(timeout=0)  # again: nothing happens
    container.remove()
    with pytest.raises(RpcError) as raised:
        container.status()
    assert raised.value.code == NOT_FOUND


def test_killed_from_outside(cri, handler):
    pod = cri.pod(handler)
    container = pod.container(*SLEEP).start()
    os.kill(container.pid, signal.SIGKILL)
    assert container.wait() == 137
    assert pod.status().state == READY


@pytest.mark.parametrize(
    "args, options, words",
    [
        (("nowhere",), {}, "executable file not found in $PATH"),
        (("/bin/nowhere",), {}, "no such file or directory"),
        (("/etc/passwd",), {}, "permission denied"),
        (("sleep", "1"), {"working_dir": "/etc/passwd"}, "not a directory"),
    ],
)
def test_program_that_cannot_be_run(cri, handler, args, options, words):
    """The words are what the kubelet shows; the pod can go on."""
    pod = cri.pod(handler)
    container = pod.container(*args, **options)
    with pytest.raises(RpcError) as raised:
        container.start()
    assert words in raised.value.message
    status = container.status()
    assert (status.state, status.exit_code, status.reason) == (EXITED, 128, "StartError")
    assert pod.container("true").start().wait() == 0


def test_update(cri, handler):
    container = (
        cri.pod(handler).container(*SLEEP, linux=resources(memory_limit_in_bytes=64 << 20)).start()
    )
    container.call(
        "UpdateContainerResources", linux={"memory_limit_in_bytes": 96 << 20, "cpu_shares": 512}
    )
    assert memory_limit(container.pid) == 96 << 20
    assert cpu_shares(container.pid) in (512, 501)  # the least that has the same weight


def resources(**values: object) -> dict:
    return {"resources": values}


def test_out_of_memory_is_reported(cri, handler):
    """The event comes before the exit, so CRI knows the reason."""
    pod = cri.pod(handler)
    script = "echo ready; exec tail /dev/zero"
    container = pod.container(
        "sh", "-c", script, linux=resources(memory_limit_in_bytes=16 << 20)
    ).start()
    assert container.wait() == 137
    assert container.status().reason == "OOMKilled"
    assert pod.container("true").start().wait() == 0


def test_shared_process_namespace(cri, handler):
    """shareProcessNamespace: one pid namespace; an exit takes what the container left behind."""
    linux = {"security_context": {"namespace_options": {"pid": POD}}}
    pod = cri.pod(handler, linux=linux)
    first = pod.container(*SLEEP, linux=linux).start()
    second = pod.container(
        "sh", "-c", "sleep 4321 & echo ready; sleep 0.2; exit 6", linux=linux
    ).start()
    assert first.out("readlink", "/proc/self/ns/pid") == first.out("readlink", "/proc/1/ns/pid")
    second.until_logged("ready")
    assert second.wait() == 6
    assert "sleep 4321" not in first.out("ps")
    assert first.status().state == RUNNING


def test_two_pods_do_not_see_each_other(cri, handler):
    one, two = cri.pod(handler), cri.pod(handler)
    assert one.shim_pid != two.shim_pid
    a, b = one.container(*SLEEP).start(), two.container(*SLEEP).start()
    assert a.out("hostname") != b.out("hostname")
    assert one.status().network.ip != two.status().network.ip
    b.out("ping", "-c", "1", "-W", "5", one.status().network.ip)
