"""The six hooks: order, state, environment, place, failures, timeouts."""

import json
import os
import time
from pathlib import Path

import pytest
from support import host
from support.box import Box
from support.spec import add_mount, fresh_spec, shell

ON_HOST = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
BEFORE_START = ("prestart", "createRuntime", "createContainer")
ALL = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def hook(script: str, **more: object) -> dict:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], **more}


def keep_state(box: Box, name: str) -> dict:
    """A hook on the host that keeps its stdin."""
    return hook(f"cat > {box.dir}/{name}.json")


def state_of(box: Box, name: str) -> dict:
    return json.loads((box.dir / f"{name}.json").read_text())


def traced(box: Box) -> dict:
    """A spec whose hooks and program write their names into one file, seen at the same path from everywhere."""
    spec = shell(f"echo program >> {box.dir}/trace")
    add_mount(spec, str(box.dir), "bind", box.dir, "bind", "rw")
    spec["hooks"] = {name: [hook(f"echo {name} >> {box.dir}/trace")] for name in ALL}
    return spec


def test_order(box: Box) -> None:
    """lifecycle 129; runtime.md, Lifecycle."""
    assert box.run(traced(box)).ok().out == ""
    lines = (box.dir / "trace").read_text().split()
    assert lines[:4] == list(ALL[:4])
    assert sorted(lines[4:6]) == ["poststart", "program"]  # both follow execve
    assert lines[6:] == ["poststop"]


def test_which_verb_runs_which_hook(box: Box) -> None:
    trace = box.dir / "trace"
    spec = traced(box)
    container = box.create(spec)
    assert trace.read_text().split() == list(BEFORE_START)
    container.start()
    container.wait()
    assert sorted(trace.read_text().split()[3:]) == ["poststart", "program", "startContainer"]
    container.delete().ok()
    assert trace.read_text().split()[6:] == ["poststop"]


def test_several_hooks_of_a_kind_run_in_order(box: Box) -> None:
    spec = fresh_spec()
    spec["hooks"] = {"createRuntime": [hook(f"echo {n} >> {box.dir}/trace") for n in range(4)]}
    box.run(spec).ok()
    assert (box.dir / "trace").read_text().split() == ["0", "1", "2", "3"]


STATUS = {
    "prestart": "creating", "createRuntime": "creating", "createContainer": "creating", "poststart": "running",
    "poststop": "stopped",
}  # fmt: skip


@pytest.mark.parametrize("name", ON_HOST)
def test_state_on_stdin(box: Box, name: str) -> None:
    """runtime.md: the state document; decisions 28: the status of each."""
    spec = fresh_spec()
    spec["annotations"] = {"a": "b"}
    spec["hooks"] = {name: [keep_state(box, name)]}
    container = box.create(spec)
    container.start()
    container.wait()
    container.delete().ok()
    state = state_of(box, name)
    assert state["id"] == container.id
    assert state["bundle"] == str(container.bundle)
    assert state["annotations"] == {"a": "b"}
    assert state["ociVersion"].startswith("1.")
    assert state["status"] == STATUS[name]


@pytest.mark.parametrize("name", ["prestart", "createRuntime", "poststart"])
def test_pid_in_the_state_of_a_host_hook(box: Box, name: str) -> None:
    """lifecycle 130: the host's pid, whose network namespace is the container's."""
    spec = fresh_spec()
    spec["hooks"] = {name: [hook(f"cat > {box.dir}/{name}.json")]}
    container = box.parked(spec)
    assert state_of(box, name)["pid"] == container.pid


def test_pid_in_the_state_of_create_container(box: Box) -> None:
    """decisions 28: as the container's pid namespace sees it."""
    spec = fresh_spec()
    spec["hooks"] = {"createContainer": [keep_state(box, "createContainer")]}
    box.run(spec).ok()
    assert state_of(box, "createContainer")["pid"] == 1


def test_start_container_runs_in_the_container(box: Box) -> None:
    """runtime.md: in the container's namespaces and root, with its state."""
    spec = shell("cat /tmp/state; cat /tmp/where")
    add_mount(spec, "/tmp", "tmpfs", "tmpfs")
    script = "cat > /tmp/state; echo > /tmp/where; hostname >> /tmp/where; readlink /proc/self/ns/net >> /tmp/where; ls -d /bin/probe >> /tmp/where"
    spec["hooks"] = {"startContainer": [hook(script)]}
    lines = box.run(spec).ok().lines
    state = json.loads(lines[0])
    assert state["status"] == "created"
    assert state["pid"] == 1
    assert lines[1] == "box"
    assert lines[2] != os.readlink("/proc/self/ns/net")
    assert lines[3] == "/bin/probe"


@pytest.mark.parametrize("name", ["prestart", "createRuntime", "createContainer"])
def test_namespaces_of_the_hook(box: Box, name: str) -> None:
    """prestart and createRuntime in those of the runtime, createContainer in those of the container."""
    spec = fresh_spec()
    out = box.dir / "ns"
    spec["hooks"] = {name: [hook(f"for n in net uts ipc mnt; do readlink /proc/self/ns/$n; done > {out}")]}
    container = box.parked(spec)
    theirs = host.namespaces_of(container.pid if name == "createContainer" else "self")
    assert out.read_text().split() == [theirs[n] for n in ("net", "uts", "ipc", "mnt")]


def test_root_and_cwd_of_create_container(box: Box) -> None:
    """decisions 28: the host's root, before pivot; the container's mounts are below the rootfs already."""
    spec = fresh_spec()
    add_mount(spec, "/vol", "tmpfs", "tmpfs")
    out = box.dir / "seen"
    spec["hooks"] = {"createContainer": [hook(f"ls {box.dir} > /dev/null && pwd > {out}; grep -c rootfs/vol /proc/self/mountinfo >> {out}")]}
    where = box.bundle(spec)
    box.run(None, bundle=where).ok()
    assert out.read_text().split() == [str(where / "rootfs"), "1"]


def test_mounts_of_create_container_hook_are_in_the_container(box: Box) -> None:
    spec = fresh_spec("cat", "/vol/file")
    (box.dir / "volume").mkdir()
    (box.dir / "volume/file").write_text("by hook\n")
    spec["hooks"] = {"createContainer": [hook(f"mount --bind {box.dir}/volume rootfs/vol || mount --bind {box.dir}/volume vol")]}
    assert box.run(spec).ok().out == "by hook\n"
    assert not [row for row in host.mountinfo() if row["point"].endswith("/vol")]


def test_interface_of_a_create_runtime_hook(box: Box) -> None:
    """lifecycle 130: what docker's network hook does. The interface is made in the container's namespace only."""
    spec = fresh_spec("ip", "link", "show", "skerry-t0")
    script = (
        "pid=$(sed -n 's/.*\"pid\":[ ]*\\([0-9]*\\).*/\\1/p');"
        " exec nsenter --net=/proc/$pid/ns/net ip link add skerry-t0 type veth peer name skerry-t1"
    )
    spec["hooks"] = {"createRuntime": [hook(script)]}
    assert "skerry-t0" in box.run(spec).ok().out


def test_args_and_env(box: Box) -> None:
    """config.md, POSIX-platform Hooks: args with argv[0], env as given and nothing else."""
    out = box.dir / "out"
    spec = fresh_spec()
    spec["hooks"] = {
        "createRuntime": [
            {"path": "/bin/sh", "args": ["my name", "-c", f'echo "$0" > {out}; env >> {out}', "zero"], "env": ["A=1", "B=x y"]}
        ]
    }
    box.run(spec, env={"SECRET": "caller"}).ok()
    lines = out.read_text().splitlines()
    assert lines[0] == "zero"
    assert {"A=1", "B=x y"} <= set(lines)
    assert not [line for line in lines if "SECRET" in line]


def test_hook_without_args(box: Box) -> None:
    program = box.dir / "program"
    program.write_text(f"#!/bin/sh\necho $# > {box.dir}/out\n")
    program.chmod(0o755)
    spec = fresh_spec()
    spec["hooks"] = {"createRuntime": [{"path": str(program)}]}
    box.run(spec).ok()
    assert (box.dir / "out").read_text() == "0\n"


@pytest.mark.parametrize("name", ["startContainer", "createContainer"])
def test_container_hook_without_env_gets_none_of_the_callers(box: Box, name: str) -> None:
    """V58, decisions 28."""
    spec = shell("cat /tmp/env 2>/dev/null; true")
    out = "/tmp/env" if name == "startContainer" else box.dir / "env"
    add_mount(spec, "/tmp", "tmpfs", "tmpfs")
    spec["hooks"] = {name: [hook(f"env > {out}")]}
    result = box.run(spec, env={"SECRET": "caller"}).ok()
    text = result.out if name == "startContainer" else (box.dir / "env").read_text()
    assert "PWD" in text or "SHLVL" in text
    assert "SECRET" not in text


def test_output_of_hooks_is_not_the_containers(box: Box) -> None:
    spec = fresh_spec("echo", "program")
    spec["hooks"] = {"createRuntime": [hook("echo noise")], "startContainer": [hook("echo noise")]}
    container = box.create(spec)
    container.start()
    assert container.stream.rest() == "program\n"


# --- failures

@pytest.mark.parametrize("name", BEFORE_START)
def test_failure_before_start_fails_create(box: Box, name: str) -> None:
    """lifecycle 129: everything is undone."""
    spec = fresh_spec()
    spec["hooks"] = {name: [hook("exit 7")]}
    box.refuses(spec, "exit status 7")


@pytest.mark.parametrize("name", BEFORE_START)
def test_failure_text(box: Box, name: str) -> None:
    """lifecycle 129: which hook, counted from 0."""
    spec = fresh_spec()
    spec["hooks"] = {name: [hook("true"), hook("echo because >&2; exit 7")]}
    box.refuses(spec, f"error running {name} hook #1")


@pytest.mark.parametrize("name", BEFORE_START)
def test_hooks_after_a_failed_one_do_not_run(box: Box, name: str) -> None:
    spec = fresh_spec()
    spec["hooks"] = {name: [hook("exit 1"), hook(f"touch {box.dir}/ran")]}
    box.refuses(spec)
    assert not (box.dir / "ran").exists()


@pytest.mark.parametrize("name", ["prestart", "createRuntime"])
def test_poststop_runs_when_create_fails(box: Box, name: str) -> None:
    """runtime.md, Lifecycle: on an error of these, stop, poststop, destroy."""
    spec = fresh_spec()
    spec["hooks"] = {name: [hook("exit 1")], "poststop": [hook(f"touch {box.dir}/ran")]}
    box.refuses(spec)
    assert (box.dir / "ran").exists()


def test_failure_of_start_container_fails_start(box: Box) -> None:
    """lifecycle 66: the program never runs, the container is stopped."""
    spec = fresh_spec("echo", "ran")
    spec["hooks"] = {"startContainer": [hook("exit 7")]}
    container = box.create(spec)
    container.verb("start").failed()
    container.wait()
    assert container.status == "stopped"
    assert "ran" not in container.stream.rest()
    container.delete().ok()


@pytest.mark.skerry_only("lifecycle 66, 129")
def test_failure_text_of_start_container(box: Box) -> None:
    spec = fresh_spec()
    spec["hooks"] = {"startContainer": [hook("exit 7")]}
    box.create(spec).verb("start").failed().says("error running startContainer hook #0", "exit status 7")


def test_failure_of_poststart_kills(box: Box) -> None:
    """features: poststart failure kills."""
    spec = fresh_spec("probe", "park")
    spec["hooks"] = {"poststart": [hook("exit 7")]}
    container = box.create(spec)
    container.verb("start").failed()
    container.wait()


def test_failure_of_poststop_is_a_warning(box: Box) -> None:
    """runtime.md: logged, and delete goes on with the next."""
    spec = fresh_spec()
    spec["hooks"] = {"poststop": [hook("exit 7"), hook(f"touch {box.dir}/ran")]}
    container = box.start(spec)
    container.wait()
    container.delete().ok()
    container.verb("state").failed()
    assert (box.dir / "ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", BEFORE_START)
def test_timeout(box: Box, name: str) -> None:
    """security 6: within timeout + 1 s."""
    spec = fresh_spec()
    spec["hooks"] = {name: [hook("exec sleep 1000", timeout=1)]}
    begin = time.monotonic()
    box.refuses(spec)
    assert 0.9 < time.monotonic() - begin < 2.5


@pytest.mark.slow
@pytest.mark.parametrize("name", BEFORE_START)
def test_timeout_kills_the_group(box: Box, name: str) -> None:
    """features: children too, and what ignores TERM."""
    spec = fresh_spec()
    spec["hooks"] = {name: [hook("trap '' TERM; sleep 1000 & sleep 1000", timeout=1)]}
    begin = time.monotonic()
    box.refuses(spec)
    assert 0.9 < time.monotonic() - begin < 2.5


@pytest.mark.slow
def test_timeout_of_start_container(box: Box) -> None:
    spec = fresh_spec()
    spec["hooks"] = {"startContainer": [hook("sleep 1000", timeout=1)]}
    container = box.create(spec)
    begin = time.monotonic()
    container.verb("start").failed()
    assert 0.9 < time.monotonic() - begin < 2.5
    container.wait()


def test_hook_that_ends_before_its_timeout(box: Box) -> None:
    spec = fresh_spec()
    spec["hooks"] = {name: [hook("true", timeout=100)] for name in ALL}
    box.run(spec).ok()


def test_hook_that_does_not_read_the_state(box: Box) -> None:
    """A closed stdin is no error (EPIPE), with a state larger than a pipe too."""
    spec = fresh_spec()
    spec["annotations"] = {"large": "x" * 200000}
    spec["hooks"] = {"createRuntime": [hook("exec <&-; true")]}
    box.run(spec).ok()


@pytest.mark.slow
def test_child_of_a_hook_that_keeps_its_output_open(box: Box) -> None:
    """security 6: a child holding stdout holds create for timeout + 1 s at most, whatever comes of it."""
    spec = fresh_spec()
    pid_file = box.dir / "pid"
    spec["hooks"] = {"createRuntime": [hook(f"sleep 1000 & echo $! > {pid_file}", timeout=1)]}
    begin = time.monotonic()
    box.run(spec)
    assert time.monotonic() - begin < 2.5
    pid = int(pid_file.read_text())
    if Path(f"/proc/{pid}").exists():
        os.kill(pid, 9)


def test_missing_hook_program(box: Box) -> None:
    """security 8."""
    spec = fresh_spec()
    spec["hooks"] = {"createRuntime": [{"path": str(box.dir / "missing")}]}
    box.refuses(spec, "no such file or directory")


def test_bad_kind_of_hooks(box: Box) -> None:
    """security 8: not an array, relative path, timeout 0 or negative."""
    for bad in ({"createRuntime": {"path": "/bin/true"}}, {"createRuntime": [{"path": "bin/true"}]}):
        spec = fresh_spec()
        spec["hooks"] = bad
        box.refuses(spec)
