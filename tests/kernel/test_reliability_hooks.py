"""Each of the six kinds of hooks, going wrong in each way: who fails, with which words, and that all is undone in time."""

import os
import time
from pathlib import Path

import pytest
from support import host, leaks
from support.box import Box, Container
from support.runtime import Result
from support.spec import add_mount, drop_namespace, fresh_spec, shell

CREATE = ("prestart", "createRuntime", "createContainer")
START = ("startContainer", "poststart")
ALL = (*CREATE, *START, "poststop")
TIMEOUT_S = 1

# how a hook goes wrong -> (hook, words of the error)
WAYS = {
    "exit status": ({"path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 3"]}, "exit status 3, output: why"),
    "signal": ({"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $$"]}, "killed by signal 9"),
    "missing": ({"path": "/no/such/hook"}, "no such file or directory"),
    "not executable": ({"path": "/etc/passwd"}, "permission denied"),
    "hang": ({"path": "/bin/sh", "args": ["sh", "-c", "trap '' TERM; sleep 1000 & wait"], "timeout": TIMEOUT_S}, str(TIMEOUT_S)),
}  # fmt: skip


def spec_with(name: str, *hooks: dict) -> dict:
    spec = fresh_spec("probe", "park")
    spec["hooks"] = {name: list(hooks)}
    return spec


def try_it(box: Box, name: str, spec: dict) -> tuple[Result, Container | None]:
    """Go on until the verb that runs hooks of this kind; its result."""
    if name in CREATE:
        return box.try_create(spec), None
    container = box.create(spec)
    if name in START:
        return container.verb("start"), container
    container.start().stream.until("ready")
    container.end()
    return container.delete(), container


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("way", WAYS)
def test_a_hook_that_goes_wrong(box: Box, name: str, way: str) -> None:
    """lifecycle 129; runtime.md "Lifecycle": before the program it fails the verb, poststart kills, poststop warns."""
    hook, words = WAYS[way]
    begin = time.monotonic()
    result, container = try_it(box, name, spec_with(name, hook))
    assert time.monotonic() - begin < TIMEOUT_S + 1
    assert f"error running {name} hook #0: " in result.err and words in result.err.lower(), result
    assert len(result.err.strip().splitlines()) == 1 and "Traceback" not in result.err, result
    if name == "poststop":
        assert result.code == 0, result
        container.verb("state").failed().says("does not exist")
    elif name in START:
        result.failed()
        container.wait(2)
        assert container.status == "stopped"
        container.delete().ok()
    else:
        result.failed()
    assert leaks.settle(box.leftovers) == []


@pytest.mark.parametrize("name", ALL)
def test_a_grandchild_that_keeps_the_output(box: Box, name: str) -> None:
    """security 6: the hook has ended, so nobody waits for the pipe's end; without a timeout, too."""
    add = "sleep 1000 & echo $! > {}; exit 0"
    if name == "startContainer":
        spec = spec_with(name, {"path": "/bin/sh", "args": ["sh", "-c", add.format("/tmp/pid")]})
        add_mount(spec, "/tmp", "tmpfs", "tmpfs")
    else:
        spec = spec_with(name, {"path": "/bin/sh", "args": ["sh", "-c", add.format(box.dir / "pid")]})
    begin = time.monotonic()
    result, container = try_it(box, name, spec)
    result.ok()
    assert time.monotonic() - begin < 2
    if name != "startContainer":
        os.kill(int((box.dir / "pid").read_text()), 9)
    if container is not None and name in START:
        assert container.status == "running"


@pytest.mark.parametrize("name", ["prestart", "createRuntime", "createContainer", "startContainer"])
def test_poststop_runs_once_where_something_was_made(box: Box, name: str) -> None:
    """runtime.md: after a failure the lifecycle goes on at the destruction; a second delete runs no hook again."""
    spec = spec_with(name, {"path": "/bin/sh", "args": ["sh", "-c", "exit 1"]})
    spec["hooks"]["poststop"] = [_trace(box)]
    result, container = try_it(box, name, spec)
    result.failed()
    if container is not None:
        container.wait()
        container.delete().ok()
        container.delete("--force").ok()
    assert (box.dir / "trace").read_text().split() == ["stopped"]


def _trace(box: Box) -> dict:
    script = f"sed -n 's/.*\"status\":\"\\([a-z]*\\)\".*/\\1/p' >> {box.dir}/trace"
    return {"path": "/bin/sh", "args": ["sh", "-c", script]}


def test_no_poststop_where_nothing_was_made(box: Box) -> None:
    """Bad input changes nothing: as runc, which has no container then whose end there could be hooks for."""
    spec = fresh_spec("true")
    spec["root"]["path"] = "missing"
    spec["hooks"] = {"poststop": [_trace(box)]}
    box.refuses(spec)
    assert not (box.dir / "trace").exists()


def test_a_failed_poststop_does_not_hide_why_create_failed(box: Box) -> None:
    """lifecycle 49."""
    spec = fresh_spec("no-such-program")
    spec["hooks"] = {"poststop": [{"path": "/no/such/hook"}]}
    result = box.try_create(spec).failed()
    assert "executable file not found in $PATH" in result.message, result
    assert "error running poststop hook #0" in result.err, result


@pytest.mark.parametrize("foreground", [True, False], ids=["foreground", "detached"])
def test_run_whose_poststart_hook_fails(box: Box, foreground: bool) -> None:
    """lifecycle 93: nothing is left."""
    spec = spec_with("poststart", {"path": "/bin/sh", "args": ["sh", "-c", "exit 1"]})
    where = box.bundle(spec)
    flags = () if foreground else ("--detach",)
    result = box.runtime.spawn("run", *flags, "--bundle", where, box.new_id()).finish_reaping().failed()
    assert "error running poststart hook #0: exit status 1" in result.message, result
    assert leaks.settle(box.leftovers) == []


def test_failed_poststart_kills_all_without_a_pid_namespace(box: Box) -> None:
    """features: poststart failure kills: the container, not init alone."""
    spec = shell("sleep 1000 & echo $! > /out/pid; wait")
    drop_namespace(spec, "pid")
    (box.dir / "out").mkdir()
    add_mount(spec, "/out", "bind", box.dir / "out", "bind", "rw")
    pid = box.dir / "out/pid"
    script = f"while ! [ -s {pid} ]; do :; done; exit 1"
    spec["hooks"] = {"poststart": [{"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 5}]}
    container = box.create(spec)
    container.verb("start").failed()
    host.wait_exit(int(pid.read_text()), 2)
    container.wait()


def test_hook_of_a_killed_creator_does_not_keep_the_container(box: Box) -> None:
    """A createContainer hook dies with init: it runs in the container's namespaces."""
    fifo = box.dir / "says"
    os.mkfifo(fifo)
    script = f"echo $$ > {fifo}; exec sleep 1000"
    spec = spec_with("createContainer", {"path": "/bin/sh", "args": ["sh", "-c", script]})
    id = box.new_id()
    running = box.runtime.spawn("create", "--bundle", box.bundle(spec), id)
    fifo.read_text()
    os.kill(running.pid, 9)
    running.finish()
    box.runtime.spawn("delete", "--force", id).finish_reaping().ok()
    assert leaks.settle(box.leftovers) == []
    assert not Path(box.runtime.root / id).exists()
