"""docs/containerd.md, followed word by word; the daemon of all these tests has its configuration from there."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from containerd_driver import IMAGE, TOP
from document import PAGE, blocks
from grpc_unary import RpcError
from support import host

SLEEP = ("sleep", "inf")
pytestmark = pytest.mark.parametrize("handler", ["skerry"])


def commands(title: str, **words: str) -> list[list[str]]:
    """Give the command lines of the shell blocks below a heading, with our names for its capitals."""
    lines = "".join(blocks("sh", title)).splitlines()
    assert lines, f"{PAGE.name} has no commands below {title!r}"
    for name, value in words.items():
        lines = [re.sub(rf"\b{name}\b", value, line) for line in lines]
    return [line.split(" ") for line in lines]


def run(containerd, words: list[str]) -> str:
    """Run it in the daemon's world, with the checkout's programs."""
    path = f"PATH={TOP}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    done = subprocess.run(
        containerd.inside("env", path, *words), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def test_shim_is_found_by_its_name(containerd, handler):
    for words in commands("Install"):
        assert run(containerd, words).startswith(f"{words[0]}:\n")


def test_the_pod_runs_on_the_shim_of_the_page(containerd, cri, handler):
    pod = cri.pod(handler)
    container = pod.container(*SLEEP).start()
    assert Path(f"/proc/{pod.shim_pid}/environ").exists()
    words = Path(f"/proc/{pod.shim_pid}/cmdline").read_bytes()
    assert b"containerd-shim-skerry-v2" in words and b"runc" not in words
    programs = {Path(f"/proc/{pid}/comm").read_text() for pid in host.descendants(pod.shim_pid)}
    assert programs == {"sleep\n"} and container.pid


def test_both_versions_say_the_same(handler):
    two, three = (tomllib.loads(blocks("toml", f"version {n}")[0]) for n in (2, 3))
    assert (
        two["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]
        == three["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]
    )


def test_handler_of_the_class(handler):
    (text,) = blocks("yaml", "RuntimeClass")
    names = re.findall(r"^handler: (\S+)$", text, re.MULTILINE)
    runtimes = tomllib.loads(blocks("toml", "version 2")[0])["plugins"]["io.containerd.grpc.v1.cri"]
    assert names == list(runtimes["containerd"]["runtimes"]) == ["skerry", "skerry-vm"]
    json.loads(blocks("json", "Docker")[0])


def test_look_into_a_pod(containerd, cri, handler):
    pod = cri.pod(handler)
    container = pod.container(*SLEEP).start()
    listed, state, processes, files = (
        run(containerd, words) for words in commands("Look into a pod", ID=container.id)
    )
    rows = {row.split()[0]: row.split()[1:3] for row in listed.splitlines()[1:]}
    assert rows == {
        i: [str(pid), "running"] for i, pid in ((pod.id, pod.pid), (container.id, container.pid))
    }
    assert json.loads(state)["pid"] == container.pid
    assert "sleep inf" in processes
    assert "bin" in files.split()


def test_plan_of_a_container(containerd, cri, handler):
    container = cri.pod(handler).container(*SLEEP).start()
    ((*words, bundle),) = commands("When something goes wrong", ID=container.id)
    assert bundle.startswith("/run/containerd/io.containerd.runtime.v2.task/k8s.io/")
    bundle = bundle.replace("/run/containerd", f"{containerd.top}/state", 1)
    assert "execve" in run(containerd, [*words, bundle])


def test_ctr(containerd, ctr, handler):
    (words,) = commands("ctr", IMAGE=IMAGE, ID=ctr.new_id())
    assert words[0] == "ctr"
    assert containerd.ctr(*words[1:]).stdout == "hello\n"


def test_systemds_form_of_a_cgroup_is_refused(cri, handler):
    """As a kubelet with systemd's driver asks for it."""
    (said,) = blocks("text", "Cgroups")
    with pytest.raises(RpcError) as raised:
        cri.pod(handler, linux={"cgroup_parent": "/kubepods.slice/kubepods-pod1.slice"})
    assert said.strip() in raised.value.message
    assert not list(Path("/sys/fs/cgroup").glob("*/*kubepods-pod1*"))


def test_handler_without_its_program(containerd, cri, handler):
    """containerd says which program it looks for; ctr resolves types the same way."""
    words = ("run", "--rm", "--runtime", "io.containerd.skerry-absent.v2", IMAGE, "absent", "true")
    error = containerd.ctr(*words, code=1).stderr
    assert "containerd-shim-skerry-absent-v2" in error and "not installed" in error
