"""state, list, ps, kill, logs, spec, features: forms and texts that engines read."""

import json
import os
import re
import signal

import pytest
from support import host
from support.box import Box
from support.spec import drop_namespace, fresh_spec, shell

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z")


# --- state

def test_state_shape(box: Box) -> None:
    """lifecycle 101: order, indent, values."""
    spec = fresh_spec()
    spec["annotations"] = {"a": "b", "c.d/e": ""}
    container = box.create(spec)
    result = container.verb("state").ok()
    state = json.loads(result.out)
    keys = ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "annotations", "owner"]
    assert list(state) == keys
    assert result.out.startswith('{\n  "ociVersion": "')
    assert state["id"] == container.id
    assert state["pid"] == container.pid
    assert state["status"] == "created"
    assert state["bundle"] == str(container.bundle)
    assert state["rootfs"] == str(container.rootfs)
    assert state["annotations"] == spec["annotations"]
    assert RFC3339.fullmatch(state["created"])
    assert result.err == ""


def test_state_has_what_the_spec_demands(box: Box) -> None:
    """runtime-spec runtime.md, State: ociVersion, id, status, pid, bundle."""
    container = box.parked(fresh_spec())
    state = container.state()
    assert {"ociVersion", "id", "status", "pid", "bundle"} <= state.keys()
    assert (state["id"], state["status"], state["pid"]) == (container.id, "running", container.pid)
    assert state["bundle"] == str(container.bundle)
    assert "annotations" not in state or state["annotations"] in ({}, None)


def test_state_of_a_stopped_container(box: Box) -> None:
    """lifecycle 102: pid 0."""
    container = box.start(fresh_spec())
    container.wait()
    state = container.state()
    assert state["status"] == "stopped"
    assert state["pid"] == 0


@pytest.mark.skerry_only("lifecycle 136")
def test_owner(box: Box) -> None:
    assert box.create(fresh_spec()).state()["owner"] == "root"
    container = box.create(fresh_spec(), options=("--owner", "somebody"))
    assert container.state()["owner"] == "somebody"
    assert "somebody" in box.runtime.call("list").ok().out


# --- list

def test_list_of_nothing(box: Box) -> None:
    """lifecycle 103: the json of nothing is null."""
    root = box.dir / "root"
    assert box.runtime.call("list", root=root).ok().lines[0].split() == "ID PID STATUS BUNDLE CREATED OWNER".split()
    assert box.runtime.call("list", "-q", root=root).ok().out == ""
    assert box.runtime.call("list", "-f", "json", root=root).ok().out.strip() in ("null", "[]")


@pytest.mark.skerry_only("lifecycle 103")
def test_json_of_nothing_is_null(box: Box) -> None:
    assert box.runtime.call("list", "-f", "json", root=box.dir / "root").ok().out == "null\n"


def test_list_table(box: Box) -> None:
    """lifecycle 103."""
    container = box.parked(fresh_spec())
    rows = [line.split() for line in box.runtime.call("list").ok().lines]
    assert rows[0] == "ID PID STATUS BUNDLE CREATED OWNER".split()
    row = next(row for row in rows if row[0] == container.id)
    assert row[1:4] == [str(container.pid), "running", str(container.bundle)]


def test_list_json(box: Box) -> None:
    """lifecycle 103: one line."""
    container = box.parked(fresh_spec())
    result = box.runtime.call("list", "-f", "json").ok()
    row = next(row for row in json.loads(result.out) if row["id"] == container.id)
    assert (row["pid"], row["status"], row["bundle"]) == (container.pid, "running", str(container.bundle))


@pytest.mark.skerry_only("lifecycle 103")
def test_list_json_is_one_line_and_quiet_wins(box: Box) -> None:
    container = box.create(fresh_spec())
    assert len(box.runtime.call("list", "-f", "json").ok().lines) == 1
    assert box.runtime.call("list", "-q", "-f", "json").ok().lines == [container.id]


def test_list_quiet(box: Box) -> None:
    ids = {box.create(fresh_spec()).id for _ in range(2)}
    assert ids <= set(box.runtime.call("list", "--quiet").ok().lines)


def test_list_format_is_checked(box: Box) -> None:
    box.runtime.call("list", "-f", "xml").failed().says("invalid format option")


def test_list_survives_a_bad_entry(box: Box) -> None:
    """lifecycle 104, 10: what is no container of ours is told or skipped, the rest is listed."""
    root = box.dir / "root"
    where = box.bundle(fresh_spec())
    id = box.new_id()
    box.runtime.call("create", "--bundle", where, id, root=root).ok()
    (root / "foreign").mkdir()
    (root / "a-file").write_text("x")
    result = box.runtime.call("list", "-q", root=root).ok()
    assert id in result.lines
    box.runtime.call("delete", "-f", id, root=root).ok()


# --- ps

def test_ps_table(box: Box) -> None:
    """lifecycle 105: the header of ps -ef and the container's processes with host pids."""
    container = box.parked(fresh_spec())
    lines = container.verb("ps").ok().lines
    assert "PID" in lines[0].split()
    assert [line.split()[1] for line in lines[1:]] == [str(container.pid)]


def test_ps_json(box: Box) -> None:
    container = box.parked(fresh_spec())
    assert container.verb("ps", "-f", "json").ok().json() == [container.pid]


def test_ps_sees_children(box: Box) -> None:
    container = box.start(shell("sleep 1000 & echo up; wait"))
    container.stream.until("up")
    pids = container.verb("ps", "--format", "json").ok().json()
    assert set(pids) == {container.pid, *host.descendants(container.pid)}
    assert len(pids) == 2


def test_ps_options(box: Box) -> None:
    container = box.parked(fresh_spec())
    lines = box.runtime.call("ps", container.id, "-o", "pid,comm").ok().lines
    assert [line.split() for line in lines[1:]] == [[str(container.pid), "probe"]]


@pytest.mark.skerry_only("lifecycle 105")
def test_ps_of_a_stopped_container(box: Box) -> None:
    container = box.start(fresh_spec())
    container.wait()
    container.verb("ps").failed().says("container is stopped")


# --- kill

@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("TERM", 15), ("SIGTERM", 15), ("sigusr1", 10), ("usr2", 12), ("10", 10), ("HUP", 1), ("SIGRTMIN", 34),
        ("RTMIN+3", 37), ("SIGRTMAX-2", 62), ("RTMAX", 64), ("64", 64), ("SIGWINCH", 28),
    ],
)  # fmt: skip
def test_kill_sends_the_very_signal(box: Box, word: str, number: int) -> None:
    """lifecycle 106, 107."""
    container = box.start(fresh_spec("probe", "catch"))
    container.stream.until("ready")
    container.kill(word)
    assert container.wait(2) == number
    assert container.stream.rest() == f"ready\nsignal {number}\n"


def test_kill_sends_term_by_default(box: Box) -> None:
    """lifecycle 106."""
    container = box.start(fresh_spec("probe", "catch"))
    container.stream.until("ready")
    container.kill()
    assert container.wait() == signal.SIGTERM


@pytest.mark.parametrize("word", ["SIGNOPE", "", "TERM2", "SIG", "99", "-1", "65", "1.5", "0x9"])
def test_unknown_signal(box: Box, word: str) -> None:
    """lifecycle 107, security 8: nothing is sent."""
    container = box.parked(fresh_spec())
    box.runtime.call("kill", container.id, word).failed()
    assert container.status == "running"


@pytest.mark.skerry_only("lifecycle 107")
def test_unknown_signal_text(box: Box) -> None:
    container = box.parked(fresh_spec())
    box.runtime.call("kill", container.id, "SIGNOPE").failed().says('unknown signal "SIGNOPE"')


def test_kill_of_a_stopped_container(box: Box) -> None:
    """lifecycle 108."""
    container = box.start(fresh_spec())
    container.wait()
    box.runtime.call("kill", container.id, "KILL").failed()
    box.runtime.call("kill", "--all", container.id, "KILL").ok()


def test_kill_refusal_text(box: Box) -> None:
    """lifecycle 108."""
    container = box.start(fresh_spec())
    container.wait()
    box.runtime.call("kill", container.id, "KILL").failed().says("container not running")


def test_kill_all_reaches_every_process(box: Box) -> None:
    """lifecycle 106."""
    spec = shell("probe catch & probe catch & wait; wait; echo end")
    drop_namespace(spec, "pid")
    container = box.start(spec)
    container.stream.until("ready\nready\n")
    box.runtime.call("kill", "--all", container.id, "USR1").ok()
    container.wait()
    assert container.stream.rest().count("signal 10") == 2


def test_kill_thaws_a_paused_container(box: Box) -> None:
    """lifecycle 108: KILL does not wait for resume."""
    container = box.parked(fresh_spec())
    container.verb("pause").ok()
    container.kill("KILL")
    assert container.wait(2) == -signal.SIGKILL


def test_kill_ends_all_processes_without_a_pid_namespace(box: Box) -> None:
    """lifecycle 108."""
    spec = shell("sleep 1000 & echo up; probe park")
    drop_namespace(spec, "pid")
    container = box.start(spec)
    container.stream.until("ready")
    container.kill("KILL")
    container.wait()
    host.eventually(lambda: not [p for p in host.descendants() if host.status_of(p)["State"][0] != "Z"], 2)


# --- logs

def test_json_log(box: Box) -> None:
    """lifecycle 134: shims and podman read the last error line."""
    log = box.dir / "log.json"
    options = ("--log", str(log), "--log-format", "json")
    box.runtime.call("create", "--bundle", box.bundle(fresh_spec("none")), box.new_id(), options=options).failed()
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"level", "msg", "time"} <= rows[-1].keys()
    assert rows[-1]["level"] == "error"
    assert "none" in rows[-1]["msg"]


@pytest.mark.skerry_only("lifecycle 134")
def test_error_goes_to_log_and_stderr(box: Box) -> None:
    """The same words in both, one line each."""
    log = box.dir / "log.json"
    options = ("--log", str(log), "--log-format", "json")
    result = box.runtime.call("state", "nobody", options=options).failed()
    last = json.loads(log.read_text().splitlines()[-1])
    assert last["level"] == "error"
    assert last["msg"] in result.err
    assert len(result.err.splitlines()) == 1
    assert os.stat(log).st_mode & 0o777 == 0o600


def test_text_log(box: Box) -> None:
    log = box.dir / "log"
    box.runtime.call("state", "nobody", options=("--log", str(log))).failed()
    assert "does not exist" in log.read_text()


def test_log_is_appended(box: Box) -> None:
    log = box.dir / "log"
    log.write_text("first\n")
    box.runtime.call("state", "nobody", options=("--log", str(log))).failed()
    assert log.read_text().startswith("first\n")
    assert len(log.read_text().splitlines()) >= 2


def test_unknown_log_format(box: Box) -> None:
    """lifecycle P."""
    box.runtime.call("list", options=("--log-format", "xml")).failed()


@pytest.mark.skerry_only("lifecycle P")
def test_unknown_log_format_text(box: Box) -> None:
    box.runtime.call("list", options=("--log-format", "xml")).failed().says("invalid log-format: xml")


# --- the command line itself

@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["state"], '"state" requires exactly 1 argument'),
        (["state", "a", "b"], '"state" requires exactly 1 argument'),
        (["kill"], '"kill" requires a minimum of 1 argument'),
        (["kill", "a", "b", "c"], '"kill" requires a maximum of 2 argument'),
        (["start"], '"start" requires exactly 1 argument'),
        (["create"], '"create" requires exactly 1 argument'),
    ],
)
def test_number_of_arguments(box: Box, words: list[str], rule: str) -> None:
    """lifecycle P: usage on stdout."""
    result = box.runtime.call(*words).failed().says(rule)
    assert words[0] in result.out


@pytest.mark.parametrize("words", [["--no-such-option", "list"], ["list", "--no-such-option"], ["create", "--bundle"]])
def test_bad_options(box: Box, words: list[str]) -> None:
    box.runtime.call(*words).failed()


def test_unknown_verb(box: Box) -> None:
    result = box.runtime.call("frobnicate")
    assert result.code != 0, result


def test_version(box: Box) -> None:
    result = box.runtime.call("--version").ok()
    assert re.search(r"version \d+\.\d+", result.lines[0])
    assert [line for line in result.lines if re.match(r"spec: 1\.\d+\.\d+", line)]


@pytest.mark.parametrize("verb", ["create", "start", "run", "exec", "kill", "delete", "list", "state", "ps", "update"])
def test_help_of_a_verb(box: Box, verb: str) -> None:
    result = box.runtime.call(verb, "--help").ok()
    assert verb in result.out
    assert result.err == ""


def test_flag_forms(box: Box) -> None:
    """`--flag value`, `--flag=value`, `-f value` are one."""
    for words in (["--format", "json"], ["--format=json"], ["-f", "json"]):
        json.loads(box.runtime.call("list", *words).ok().out)


# --- spec, features

def test_spec_writes_a_config_that_runs(box: Box) -> None:
    (box.dir / "s").mkdir()
    box.runtime.call("spec", cwd=box.dir / "s").ok()
    spec = json.loads((box.dir / "s/config.json").read_text())
    assert {n["type"] for n in spec["linux"]["namespaces"]} >= {"pid", "network", "ipc", "uts", "mount"}
    assert spec["process"]["terminal"] is True
    assert spec["root"] == {"path": "rootfs", "readonly": True}
    spec["process"]["terminal"] = False
    spec["process"]["args"] = ["echo", "up"]
    assert box.run(spec).ok().out == "up\n"


def test_spec_never_overwrites(box: Box) -> None:
    """lifecycle P."""
    (box.dir / "config.json").write_text("mine")
    result = box.runtime.call("spec", "-b", box.dir).failed()
    assert "exists" in result.err
    assert (box.dir / "config.json").read_text() == "mine"


@pytest.mark.skerry_only("lifecycle P")
def test_spec_refusal_text(box: Box) -> None:
    (box.dir / "config.json").write_text("mine")
    box.runtime.call("spec", cwd=box.dir).failed().says("File config.json exists. Remove it first")


def test_spec_rootless(box: Box) -> None:
    box.runtime.call("spec", "--rootless", "-b", box.dir).ok()
    linux = json.loads((box.dir / "config.json").read_text())["linux"]
    assert "user" in {n["type"] for n in linux["namespaces"]}
    assert "network" not in {n["type"] for n in linux["namespaces"]}
    assert linux["uidMappings"][0]["size"] == 1


@pytest.mark.skerry_only("V10")
def test_spec_has_no_inheritable_or_ambient_capabilities(box: Box) -> None:
    box.runtime.call("spec", "-b", box.dir).ok()
    caps = json.loads((box.dir / "config.json").read_text())["process"]["capabilities"]
    assert not caps.get("inheritable") and not caps.get("ambient")


def test_features(box: Box) -> None:
    """features-linux.md: what engines look for."""
    document = box.runtime.call("features").ok().json()
    assert document["ociVersionMin"] and document["ociVersionMax"]
    assert set(document["hooks"]) == {
        "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
    }  # fmt: skip
    assert {"bind", "rbind", "ro", "rw", "nosuid", "noexec", "tmpcopyup"} <= set(document["mountOptions"])
    linux = document["linux"]
    assert {"pid", "network", "ipc", "uts", "mount", "user", "cgroup"} <= set(linux["namespaces"])
    assert {"CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"} <= set(linux["capabilities"])
    assert linux["cgroup"]["v1"] is True
    assert linux["seccomp"]["enabled"] is True
    assert {"SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY", "SCMP_ACT_KILL_PROCESS"} <= set(linux["seccomp"]["actions"])
