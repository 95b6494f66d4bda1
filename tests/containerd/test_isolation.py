"""What a pod's security context asks for, seen from inside the containers."""

import json

import pytest
from cri_client import LOCALHOST, NODE, RUNTIME_DEFAULT, UNCONFINED
from grpc_unary import RpcError
from support import host

SLEEP = ("sleep", "inf")
NEW_USERNS = ("busybox", "unshare", "-U", "true")


def security(**context: object) -> dict:
    return {"security_context": context}


def status_of(container) -> dict[str, str]:
    return host.fields(container.out("cat", "/proc/self/status"))


def test_host_namespaces(containerd, cri, handler):
    """hostNetwork, hostPID, hostIPC: those of the daemon."""
    namespaces = security(namespace_options={"network": NODE, "pid": NODE, "ipc": NODE})
    pod = cri.pod(handler, linux=namespaces, hostname="")
    container = pod.container(*SLEEP, linux=namespaces).start()
    outside = host.namespaces_of(containerd.pid)
    inside = {
        n: container.out("readlink", f"/proc/self/ns/{n}").strip()
        for n in ("net", "pid", "ipc", "mnt")
    }
    assert {n: inside[n] == outside[n] for n in inside} == {
        "net": True,
        "pid": True,
        "ipc": True,
        "mnt": False,
    }
    assert "containerd" in container.out("ps")
    # Nobody's death ends the others of a shared pid namespace: the runtime has to.
    child = pod.container("sh", "-c", "sleep 5432 & echo ready; wait", linux=namespaces).start()
    child.until_logged("ready")
    child.stop()
    assert "sleep 5432" not in container.out("ps")


def test_privileged(cri, handler):
    linux = security(privileged=True)
    pod = cri.pod(handler, linux=linux)
    container = pod.container(*SLEEP, linux=linux).start()
    bounding = int(host.status_of("self")["CapBnd"], 16)
    assert int(status_of(container)["CapEff"], 16) == bounding
    assert status_of(container)["Seccomp"] == "0"
    container.out("mount", "-t", "tmpfs", "none", "/mnt")
    container.out("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    assert " /proc/sys " not in container.out("cat", "/proc/self/mounts")


def test_unprivileged(cri, handler):
    container = cri.pod(handler).container(*SLEEP).start()
    status = status_of(container)
    assert int(status["CapEff"], 16) == 0xA80425FB  # containerd's default set
    assert status["CapInh"] == status["CapAmb"] == "0" * 16
    for command in (("mount", "-t", "tmpfs", "none", "/mnt"), ("hostname", "other")):
        assert container.exec(*command).exit_code == 1
    assert container.exec("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward").exit_code == 1


def test_capabilities(cri, handler):
    linux = security(capabilities={"add_capabilities": ["SYS_TIME"], "drop_capabilities": ["ALL"]})
    container = cri.pod(handler).container(*SLEEP, linux=linux).start()
    status = status_of(container)
    assert [status[f"Cap{kind}"] for kind in ("Prm", "Eff", "Bnd")] == [f"{1 << 25:016x}"] * 3


def test_user_and_groups(cri, handler):
    linux = security(
        run_as_user={"value": 1000}, run_as_group={"value": 2000}, supplemental_groups=[3000, 4000]
    )
    container = cri.pod(handler).container("sh", "-c", "id; sleep 1000", linux=linux).start()
    # CRI adds the groups that the image's own files give to the user.
    assert "uid=1000(user) gid=2000(extra)" in container.out("id")
    assert set(container.out("id", "-G").split()) >= {"2000", "3000", "4000"}
    assert int(status_of(container)["CapEff"], 16) == 0
    container.until_logged(container.out("id").strip())


def test_unknown_user_is_refused(cri, handler):
    with pytest.raises(RpcError):
        cri.pod(handler).container(*SLEEP, linux=security(run_as_username="nobody-here"))


def test_no_new_privileges(cri, handler):
    container = cri.pod(handler).container(*SLEEP, linux=security(no_new_privs=True)).start()
    assert status_of(container)["NoNewPrivs"] == "1"


def test_read_only_rootfs(cri, handler, tmp_path):
    """The rootfs is, a volume is not, and a read-only volume is."""
    mounts = [
        {"container_path": "/vol", "host_path": str(tmp_path)},
        {"container_path": "/var", "host_path": str(tmp_path), "readonly": True},
    ]
    container = (
        cri.pod(handler)
        .container(*SLEEP, linux=security(readonly_rootfs=True), mounts=mounts)
        .start()
    )
    for path in ("/new", "/etc/new", "/var/new"):
        done = container.exec("touch", path)
        assert (done.exit_code, b"Read-only file system" in done.stderr) == (1, True)
    container.out("touch", "/vol/new")
    assert (tmp_path / "new").exists()


def test_seccomp_default_profile(cri, handler):
    """containerd's own: most calls work; a new user namespace, which needs no capability, does not."""
    linux = security(seccomp={"profile_type": RUNTIME_DEFAULT})
    container = cri.pod(handler).container(*SLEEP, linux=linux).start()
    assert status_of(container)["Seccomp"] == "2"
    assert b"not permitted" in container.exec(*NEW_USERNS).stderr


def test_seccomp_profile_of_the_node(cri, handler, tmp_path):
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
    }
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    reference = {"profile_type": LOCALHOST, "localhost_ref": str(tmp_path / "profile.json")}
    container = cri.pod(handler).container(*SLEEP, linux=security(seccomp=reference)).start()
    assert b"Function not implemented" in container.exec("mkdir", "/tmp/new").stderr
    container.out("touch", "/tmp/new")


def test_seccomp_unconfined(cri, handler):
    linux = security(seccomp={"profile_type": UNCONFINED})
    container = cri.pod(handler).container(*SLEEP, linux=linux).start()
    assert status_of(container)["Seccomp"] == "0"
    container.out(*NEW_USERNS)


def test_masked_and_read_only_paths(cri, handler):
    linux = security(masked_paths=["/proc/keys", "/proc/nowhere"], readonly_paths=["/proc/sys"])
    container = cri.pod(handler).container(*SLEEP, linux=linux).start()
    assert container.out("wc", "-c", "/proc/keys").split()[0] == "0"
    assert b"Read-only" in container.exec("sh", "-c", "echo x > /proc/sys/kernel/domainname").stderr


def test_sysctls_of_the_pod(cri, handler):
    pod = cri.pod(handler, linux={"sysctls": {"net.ipv4.ip_unprivileged_port_start": "80"}})
    container = pod.container(*SLEEP).start()
    assert container.out("cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start") == "80\n"


def test_devices(cri, handler):
    """A device of the host, under the letters that were asked for."""
    device = {"container_path": "/dev/the-null", "host_path": "/dev/null", "permissions": "r"}
    container = cri.pod(handler).container(*SLEEP, devices=[device]).start()
    assert (
        container.out("stat", "-c", "%F %t,%T", "/dev/the-null") == "character special file 1,3\n"
    )
    assert container.out("cat", "/dev/the-null") == ""
    assert container.exec("mknod", "/tmp/disk", "b", "7", "0").exit_code == 0
    assert b"not permitted" in container.exec("cat", "/tmp/disk").stderr


def test_mount_propagation(cri, handler, containerd):
    """HostToContainer: a mount made outside later shows inside; None: it does not; Bidirectional: both ways."""
    volume = containerd.top / "volume"
    (volume / "late").mkdir(parents=True, exist_ok=True)
    (volume / "own").mkdir(exist_ok=True)
    linux = security(privileged=True)
    pod = cri.pod(handler, linux=linux)
    seen = [
        pod.container(
            *SLEEP,
            linux=linux,
            mounts=[{"container_path": "/vol", "host_path": str(volume), "propagation": kind}],
        ).start()
        for kind in range(3)
    ]
    containerd.run("mount", "-t", "tmpfs", "late", str(volume / "late"))
    try:
        assert [" /vol/late " in c.out("cat", "/proc/self/mounts") for c in seen] == [
            False,
            True,
            True,
        ]
        seen[2].out("mount", "-t", "tmpfs", "own", "/vol/own")
        assert f" {volume}/own " in containerd.run("cat", "/proc/self/mounts")
        seen[2].out("umount", "/vol/own")
    finally:
        containerd.run("umount", str(volume / "late"))
