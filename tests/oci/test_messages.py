"""Exit codes and texts: lifecycle P, and where other statements say the words."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from support import host
from support.box import Box
from support.spec import drop_namespace, fresh_spec, shell

pytestmark = pytest.mark.skerry_only("lifecycle P: the words are skerry's own")


def only_line(result: object, text: str, code: int = 1) -> None:
    """Insist on that code and exactly that one line on standard error."""
    result.failed(code)  # type: ignore[attr-defined]
    assert result.err == f"{text}\n", result  # type: ignore[attr-defined]


@pytest.mark.parametrize("verb", ["create", "run"])
def test_failure_of_create_and_run(box: Box, verb: str) -> None:
    """lifecycle P, 93: the verb before the cause, the cause once."""
    result = box.try_create(fresh_spec("no-such"), verb=verb).failed()
    assert result.err.startswith(f"skerry {verb} failed: "), result
    assert result.err.count("no-such") == 1 and len(result.err.splitlines()) == 1, result


def test_failure_of_exec_before_the_process_runs(box: Box) -> None:
    """lifecycle P: 255."""
    container = box.parked(fresh_spec())
    result = container.exec("no-such").failed(255)
    assert result.err.startswith("exec failed: "), result
    only_line(container.exec(), "exec failed: exec args cannot be empty", 255)


def test_device_where_something_else_is(box: Box) -> None:
    """security 8: not only ENOTSUP."""
    spec = fresh_spec()
    spec["linux"]["devices"] = [{"path": "/etc/passwd", "type": "c", "major": 1, "minor": 3}]
    message = box.try_create(spec).failed().message
    assert "/linux/devices/0: cannot make device /etc/passwd" in message and "something else is there" in message


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -TERM $$", 128 + signal.SIGTERM)])
def test_code_of_the_process(box: Box, script: str, code: int) -> None:
    """lifecycle P, 92, 98: foreground run and exec, silent on their own account."""
    spec = shell(script)
    drop_namespace(spec, "pid")
    result = box.run(spec)
    assert (result.code, result.out, result.err) == (code, "", "")
    result = box.parked(fresh_spec()).exec("sh", "-c", script)
    assert (result.code, result.out, result.err) == (code, "", "")


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["start"], '"start" requires exactly 1 argument(s)'),
        (["delete", "a", "b"], '"delete" requires exactly 1 argument(s)'),
        (["list", "a"], '"list" requires exactly 0 argument(s)'),
        (["kill"], '"kill" requires a minimum of 1 argument(s)'),
        (["kill", "a", "b", "c"], '"kill" requires a maximum of 2 argument(s)'),
        (["exec"], '"exec" requires a minimum of 1 argument(s)'),
    ],
)
def test_wrong_number_of_arguments(box: Box, words: list[str], rule: str) -> None:
    """lifecycle P: usage on stdout."""
    result = box.runtime.call(*words)
    only_line(result, f"skerry: {rule}")
    assert f"skerry {words[0]}" in result.out


def test_unknown_log_format(box: Box) -> None:
    """lifecycle P."""
    only_line(box.runtime.call("list", options=("--log-format", "xml")), "invalid log-format: xml")


def test_spec_where_a_config_exists(box: Box) -> None:
    """lifecycle P."""
    (box.dir / "config.json").write_text("{}")
    only_line(box.runtime.call("spec", cwd=box.dir), "File config.json exists. Remove it first")


def test_cgroup_of_others(box: Box) -> None:
    """lifecycle P, 121: what is in it is neither killed nor moved."""
    first = box.parked(fresh_spec())
    where = host.cgroup_of(first.pid, "memory")
    spec = fresh_spec()
    spec["linux"]["cgroupsPath"] = "/" + str(where.relative_to(host.cgroup_mounts()["memory"]))
    only = "skerry create failed: container's cgroup is not empty: 1 process(es) found"
    only_line(box.try_create(spec), only)
    assert first.status == "running"


def test_events_of_a_stopped_container(box: Box) -> None:
    """lifecycle P."""
    container = box.start(fresh_spec())
    container.wait()
    only_line(container.verb("events", "--stats"), f"container with id {container.id} is not running")


ANY = {
    "start": [], "state": [], "delete": [], "pause": [], "resume": [], "ps": [], "kill": ["KILL"], "events": [],
    "update": [], "resize-tty": ["80", "25"],
}  # fmt: skip


@pytest.mark.parametrize("verb", ANY)
def test_missing_container(box: Box, verb: str) -> None:
    """lifecycle 135, P: the store's text follows."""
    result = box.runtime.call(verb, "nobody", *ANY[verb])
    only_line(result, "container does not exist: ID 'nobody' was not found")


def test_missing_container_of_exec(box: Box) -> None:
    """lifecycle 135, P."""
    text = "exec failed: container does not exist: ID 'nobody' was not found"
    only_line(box.runtime.call("exec", "nobody", "true"), text, 255)


def test_missing_sandbox(box: Box) -> None:
    """lifecycle 23, 135."""
    spec = fresh_spec()
    spec["annotations"] = {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "nobody"}
    text = "skerry create failed: container does not exist: ID 'nobody' was not found"
    only_line(box.try_create(spec), text)


def test_log_file_has_the_line_of_standard_error(box: Box) -> None:
    """lifecycle 134: the last error line is the text on stderr; level, msg and time in each JSON line."""
    log = box.dir / "log"
    result = box.runtime.call("state", "nobody", options=("--log", str(log), "--log-format", "json")).failed()
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert all({"level", "msg", "time"} <= row.keys() for row in rows)
    assert [row["msg"] for row in rows if row["level"] == "error"][-1] == result.err.rstrip("\n")


def test_errors_of_the_library_have_the_same_text(box: Box) -> None:
    """lifecycle P: `str()` of the typed error is what the command line adds its prefix to."""
    script = (
        "from skerry.container import Container, open_store\n"
        "import sys\n"
        "try: Container.load(open_store(sys.argv[1]), sys.argv[2]).start()\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    stopped = box.start(fresh_spec())
    stopped.wait()
    package = Path(box.runtime.binary).resolve().parents[1] / "src"
    for id, name, text in (
        ("nobody", "NotFound", "ID 'nobody' was not found"),
        (stopped.id, "StateError", "cannot start a container that has stopped"),
    ):
        line = ["/usr/bin/python3", "-B", "-c", script, str(box.runtime.root), id]
        done = subprocess.run(line, env={"PYTHONPATH": str(package)}, capture_output=True, text=True, timeout=20)
        assert done.stdout == f"{name} {text}\n", done
        assert text in box.runtime.call("start", id).failed().err


def test_owner_without_a_name(box: Box) -> None:
    """lifecycle 136, 150: never blank, in state and in list; given, it stands in both."""
    for flags, owner in (((), "root"), (("--owner", "somebody"), "somebody"), (("--owner", ""), "root")):
        container = box.create(fresh_spec(), options=flags)
        assert container.state()["owner"] == owner
        row = next(line.split() for line in box.runtime.call("list").ok().lines if line.startswith(container.id))
        assert row[-1] == owner
        rows = box.runtime.call("list", "-f", "json").ok().json()
        assert next(row for row in rows if row["id"] == container.id)["owner"] == owner


def test_success_is_silent(box: Box) -> None:
    """lifecycle P, last line: nothing of our own on either stream."""
    container = box.parked(fresh_spec())
    for words in (("pause",), ("resume",), ("kill", "0"), ("update", "--pids-limit", "50")):
        verb, *rest = words
        result = box.runtime.call(verb, *(rest if verb == "update" else []), container.id, *(rest if verb == "kill" else []))
        assert (result.code, result.out, result.err) == (0, "", ""), result
    container.end()
    result = container.delete()
    assert (result.code, result.out, result.err) == (0, "", "")


def test_create_of_one_that_exists(box: Box) -> None:
    """lifecycle 4."""
    container = box.create(fresh_spec())
    text = f"skerry create failed: container {container.id} already exists"
    only_line(box.try_create(fresh_spec(), id=container.id), text)
    assert os.path.exists(f"/proc/{container.pid}")
