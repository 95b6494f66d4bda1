"""Pods in utility VMs below the real containerd. Without KVM a pod takes seconds, so each test asks much of one."""

import json
import os
import signal
import sys
from pathlib import Path

import cri_client
import pytest
from cri_client import EXITED, READY, RUNNING
from grpc_unary import RpcError
from streaming import Streams
from support import host, leaks

SERVER = ("sh", "-c", "echo ready; while :; do echo served | nc -l -p 7000; done")
ASK = "import socket; print(socket.create_connection(('{address}', 7000), 30).makefile().read(), end='')"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
PATIENCE_S = 60


@pytest.fixture(autouse=True)
def patient(monkeypatch) -> None:
    monkeypatch.setattr(cri_client, "WAIT_S", PATIENCE_S)


@pytest.mark.parametrize("handler", ["skerry", "skerry-vm"])
def test_the_same_pod_with_both_handlers(containerd, cri, handler, tmp_path):
    """One manifest: two containers, a volume, limits, logs, execs, the network of CNI, figures, and the end of it all."""
    pod = cri.pod(handler)
    mounts = [{"container_path": "/volume", "host_path": str(tmp_path)}]
    server = pod.container(*SERVER, mounts=mounts)
    limits = {"resources": {"memory_limit_in_bytes": 64 << 20}}
    client = pod.container("sh", "-c", "echo $WHO; exec sleep inf", mounts=mounts, linux=limits, envs=[WHO]).start()
    server.start()
    server.until_logged("ready")
    client.until_logged("me")
    assert {c.status().state for c in (server, client)} == {RUNNING}
    is_ours = client.out("cat", BOOT_ID) == Path(BOOT_ID).read_text()
    assert is_ours == (handler == "skerry")

    # Where CNI has put the pod, for its containers, between them, and from the node.
    address = pod.status().network.ip
    assert f" {address}/" in client.out("ip", "-o", "-4", "addr", "show", "eth0")
    script = "nc 127.0.0.1 7000 >/volume/answer; cat /etc/resolv.conf; hostname"
    assert client.out("sh", "-c", script) == f"nameserver 127.0.0.1\n{pod.config['hostname']}\n"
    assert (tmp_path / "answer").read_text() == "served\n"
    assert containerd.run(sys.executable, "-c", ASK.format(address=address)) == "served\n"
    assert pod.config["hostname"] in client.out("cat", "/etc/hostname")
    assert "/dev/shm" in client.out("cat", "/proc/self/mounts")

    done = client.exec("sh", "-c", "echo out; echo err >&2; exit 5", timeout=PATIENCE_S)
    assert (done.stdout, done.stderr, done.exit_code) == (b"out\n", b"err\n", 5)
    with pytest.raises(RpcError, match="executable file not found"):
        client.exec("nowhere", timeout=PATIENCE_S)
    figures = client.call("ContainerStats").stats
    assert figures.cpu.usage_core_nano_seconds.value > 0
    assert 0 < figures.memory.working_set_bytes.value < 64 << 20

    shim, pids = pod.shim_pid, [pod.pid, server.pid, client.pid]
    assert set(pids) <= set(host.descendants(shim))
    client.stop(timeout=1)
    assert (client.status().state, client.status().exit_code) == (EXITED, 137)
    client.remove()
    assert pod.status().state == READY
    pod.remove()
    assert all(leaks.is_dead(pid) for pid in pids)


WHO = {"key": "WHO", "value": "me"}


@pytest.mark.parametrize("handler", ["skerry-vm"])
def test_a_pod_in_a_vm_outlives_containerd_and_ends_with_its_shim(containerd, cri, handler):
    """A terminal, a deadline, a polite end; containerd comes back to what ran; nothing is left of a shim that was killed."""
    pod = cri.pod(handler)
    script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    polite = pod.container("sh", "-c", script).start()
    polite.until_logged("ready")
    url = polite.call("Exec", cmd=["sh"], tty=True, stdin=True, stdout=True).url
    with Streams(url, containerd) as streams:
        streams.socket.settimeout(PATIENCE_S)
        streams.resize(101, 33)
        streams.write(b"while [ \"$(stty size)\" != '33 101' ]; do sleep 0.05; done; echo new'size'\n")
        streams.read_until(b"newsize")
        streams.write(b"exit 7\n")
        assert streams.exit_code() == 7
    with pytest.raises(RpcError, match="timeout"):
        polite.exec("sleep", "1234", timeout=1)
    assert "sleep 1234" not in polite.out("ps")

    containerd.kill(signal.SIGKILL)
    containerd.start()
    assert (pod.status().state, polite.status().state) == (READY, RUNNING)
    polite.stop(timeout=PATIENCE_S)
    assert (polite.status().exit_code, polite.lines()) == (3, ["ready", "bye"])

    last = pod.container("sleep", "inf").start()
    helpers = [item["pid"] for item in resources(containerd, pod.id) if item["kind"] in ("qemu", "vmshim")]
    assert len(helpers) == 2
    os.kill(pod.shim_pid, signal.SIGKILL)
    last.until(EXITED)
    host.eventually(lambda: all(leaks.is_dead(pid) for pid in helpers), PATIENCE_S)


def resources(containerd, id: str) -> list[dict]:
    return json.loads(containerd.see(f"/run/containerd/skerry/k8s.io/{id}/resources").read_text())
