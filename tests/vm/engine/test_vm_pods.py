"""Pods in one VM: owners, members, networks, volumes; who outlives whom."""

import json
import os
import subprocess
from pathlib import Path

from support import host
from support.spec import fresh_spec, namespace
from support.vm_box import VmBox

CRI = ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id")


def shell(text: str) -> dict:
    return fresh_spec("sh", "-c", text)


def annotate(spec: dict, kind: str, id: str) -> dict:
    spec.setdefault("annotations", {}).update({CRI[0]: kind, CRI[1]: id})
    return spec


def test_members_share_a_vm_and_nothing_else(box: VmBox) -> None:
    """lifecycle 29, 31, 45, 82, 139: own root, own life, the VM's network; by --host and by annotations."""
    id = box.new_id()
    spec = annotate(shell("echo one > /tmp/mine; nc -l -p 7777 -e cat & probe park"), "sandbox", id)
    spec["root"]["readonly"] = False
    owner = box.start(spec, id=id)
    owner.stream.until("ready")
    member_spec = annotate(shell("ls /tmp; probe park"), "container", id)
    member = box.start(member_spec)
    member.stream.until("ready")
    assert "mine" not in member.stream.text
    records = [box.keys(one.id)["state"] for one in (owner, member)]
    assert records[0]["IsHost"] and not records[1]["IsHost"]
    assert {r["HostID"] for r in records} == {id} and len({r["HostUniqueID"] for r in records}) == 1
    assert len({r["UniqueID"] for r in records}) == 2
    said = member.exec("sh", "-c", "echo ping | nc 127.0.0.1 7777").ok().out
    assert said == "ping\n"
    boot_ids = {one.exec("cat", "/proc/sys/kernel/random/boot_id").ok().out for one in (owner, member)}
    assert len(boot_ids) == 1
    box.runtime.isolation = ""
    joined = box.start(shell("probe park"), "--host", id)
    joined.stream.until("ready")
    assert joined.exec("cat", "/proc/sys/kernel/random/boot_id").ok().out in boot_ids
    member.delete("--force").ok()
    assert owner.status == joined.status == "running"


def test_the_vm_outlives_its_owners_init(box: VmBox) -> None:
    """lifecycle 87, 88, 116: until the owner is deleted; then members are stopped, and their deletes warn and work."""
    owner = box.parked(fresh_spec())
    member = box.member(owner, fresh_spec("probe", "park"))
    member.stream.until("ready")
    qemu = box.pid_of(owner.id, "qemu")
    owner.kill("KILL")
    owner.wait()
    assert member.exec("true").ok() and member.status == "running"
    owner.delete().ok()
    assert not Path(f"/proc/{qemu}").exists()
    end = box.until_stopped(member)
    assert end["reason"] == "deleted" and end["code"] == 137
    result = member.delete().ok()
    assert f"VM {owner.id} cannot be contacted" in result.err


def test_place_of_a_member(box: VmBox) -> None:
    """lifecycle 25-28, 30: refusals leave nothing."""
    owner = box.parked(fresh_spec())
    member = box.member(owner, fresh_spec("probe", "park"))
    box.try_create(fresh_spec(), "--host", member.id).failed().says(f"host container {member.id} is not a VM host")
    box.try_create(fresh_spec(), "--host", "nobody").failed().says("container does not exist")


def test_sandbox_without_a_process(box: VmBox) -> None:
    """lifecycle 91: its start succeeds, and a member runs."""
    id = box.new_id()
    spec = annotate(fresh_spec(), "sandbox", id)
    del spec["process"]
    owner = box.create(spec, id=id)
    owner.start()
    assert owner.status == "running"
    member = box.start(annotate(shell("echo hi"), "container", id))
    assert member.wait() == 0 and "hi" in member.stream.rest()
    owner.delete("--force").ok()


def test_network_namespace_by_path(box: VmBox) -> None:
    """lifecycle 38-40, 121, 130: the interface's address is the guest's, its peer reaches the container; it stays."""
    name, peer = f"sk{os.getpid() % 10000}a", f"sk{os.getpid() % 10000}b"
    holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo up; exec sleep 600"], stdout=subprocess.PIPE)
    other = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo up; exec sleep 600"], stdout=subprocess.PIPE)
    try:
        for one in (holder, other):
            assert one.stdout and one.stdout.readline() == b"up\n"

        def inside(pid: int, *words: str) -> str:
            return subprocess.run(["nsenter", "-t", str(pid), "-n", *words], check=True, capture_output=True, text=True).stdout

        inside(other.pid, "ip", "link", "add", name, "type", "veth", "peer", "name", peer, "netns", str(holder.pid))
        for pid, link, address in ((other.pid, name, "10.97.0.1/24"), (holder.pid, peer, "10.97.0.2/24")):
            inside(pid, "ip", "addr", "add", address, "dev", link)
            inside(pid, "ip", "link", "set", link, "up")
        spec = shell("ip addr; while :; do nc -l -p 80 -e cat; done & probe park")
        namespace(spec, "network")["path"] = f"/proc/{holder.pid}/ns/net"
        container = box.start(spec)
        container.stream.until("ready")
        assert "10.97.0.2/24" in container.stream.text and peer in container.stream.text
        host.eventually(lambda: "pong" in inside(other.pid, "sh", "-c", "echo pong | busybox nc -w 2 10.97.0.2 80 || true"), 20)
        assert box.keys(container.id)["netns"] == f"/proc/{holder.pid}/ns/net"
        stranger = fresh_spec()
        namespace(stranger, "network")["path"] = f"/proc/{other.pid}/ns/net"
        result = box.try_create(stranger, "--host", container.id).failed()
        result.says(container.id, "/linux/namespaces/")
        container.delete("--force").ok()
        assert "10.97.0.2/24" in inside(holder.pid, "ip", "addr")
        assert "ingress" not in inside(holder.pid, "tc", "qdisc")
    finally:
        for one in (holder, other):
            one.kill()
            one.communicate()


def test_interface_of_a_hook(box: VmBox) -> None:
    """lifecycle 129, 130: the pid of a host hook is in the VM's network; what the hook makes the guest has."""
    script = box.dir / "hook"
    script.write_text(
        "#!/bin/sh\npid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p')\n"
        "nsenter -t $pid -n ip link add made0 type veth peer name made1\n"
        "nsenter -t $pid -n ip addr add 10.98.0.7/24 dev made0\nnsenter -t $pid -n ip link set made0 up\n"
    )
    script.chmod(0o755)
    spec = shell("ip addr; probe park")
    spec["hooks"] = {"createRuntime": [{"path": str(script)}]}
    container = box.start(spec)
    container.stream.until("ready")
    assert "10.98.0.7/24" in container.stream.text and "made0" in container.stream.text


def test_failing_hooks_leave_nothing(box: VmBox) -> None:
    """lifecycle 49, 54, 129."""
    for name in ("prestart", "createRuntime", "createContainer"):
        spec = fresh_spec()
        spec["hooks"] = {name: [{"path": "/bin/false"}]}
        box.refuses(spec, f"error running {name} hook #0")


def test_volumes(box: VmBox) -> None:
    """lifecycle 80: directories and files, read-only by the host, and gone with the container."""
    volume, single = box.dir / "volume", box.dir / "single"
    volume.mkdir()
    (volume / "in").write_text("from the host\n")
    single.write_text("one\n")
    spec = shell("cat /v/in /f /c; echo back > /v/out; echo x > /r/no || echo refused; echo two > /f; probe park")
    spec["mounts"] += [
        {"destination": "/v", "type": "bind", "source": str(volume), "options": ["rbind", "rw"]},
        {"destination": "/r", "type": "bind", "source": str(volume), "options": ["rbind", "ro"]},
        {"destination": "/f", "type": "bind", "source": str(single), "options": ["bind", "rw"]},
        {"destination": "/c", "type": "bind", "source": str(single), "options": ["bind", "ro"]},
    ]
    container = box.start(spec)
    text = container.stream.until("ready")
    assert text.startswith("from the host\none\none\n")
    assert (volume / "out").read_text() == "back\n" and not (volume / "no").exists() and single.read_text() == "two\n"
    container.delete("--force").ok()
    assert (volume / "in").exists()


def test_rootfs_is_never_written(box: VmBox) -> None:
    """lifecycle 121, security V24, V43."""
    spec = shell("echo x > /etc-of-mine; mkdir /sub; ls /")
    spec["root"]["readonly"] = False
    bundle = box.bundle(spec)
    before = sorted(str(p) for p in (bundle / "rootfs").rglob("*"))
    result = box.run(spec, bundle=bundle).ok()
    assert "etc-of-mine" in result.out
    assert sorted(str(p) for p in (bundle / "rootfs").rglob("*")) == before


def test_namespaces_of_the_sandbox(box: VmBox) -> None:
    """Engines name the pod's namespaces by the pid that they know: the shim's."""
    id = box.new_id()
    owner = box.start(annotate(fresh_spec("probe", "park"), "sandbox", id), id=id)
    owner.stream.until("ready")
    spec = annotate(shell("readlink /proc/self/ns/ipc /proc/self/ns/uts; hostname"), "container", id)
    for kind in ("ipc", "uts"):
        namespace(spec, kind)["path"] = f"/proc/{owner.pid}/ns/{kind}"
    member = box.start(spec)
    assert member.wait() == 0
    theirs = owner.exec("sh", "-c", "readlink /proc/self/ns/ipc /proc/self/ns/uts; hostname").ok().out
    assert member.stream.rest() == theirs


def test_disk_of_a_layer_is_attached_once(box: VmBox) -> None:
    """lifecycle 36, 158: layers in the guest, whatever is missing in root.path."""
    spec = shell("cat /top /base; probe park")
    bundle = box.bundle(spec)
    for layer in ("top", "scratch"):
        (bundle / layer).mkdir()
    (bundle / "top/top").write_text("t\n")
    (bundle / "rootfs/base").write_text("b\n")
    spec["annotations"] = {"run.skerry.layers": json.dumps(["top", "rootfs", "scratch"])}
    del spec["root"]
    (bundle / "config.json").write_text(json.dumps(spec))
    container = box.start(spec, bundle=bundle)
    assert container.stream.until("ready").startswith("t\nb\n")
