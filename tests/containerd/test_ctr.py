"""Single containers by `ctr`: what CRI does not offer of the task API, and each kind of output."""

import fcntl
import json
import os
import re
import signal
import subprocess
import termios
from contextlib import contextmanager
from pathlib import Path

import pytest
from events import Events
from limits import cpu_quota, cpu_usage_ns, memory_figures, memory_limit
from support import host
from support.terminal import open_terminal

SLEEP = ("sleep", "inf")
ENDS_AT_TERM = ("sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done")


@contextmanager
def terminal(command: list[str]):
    """Run a command on a terminal of its own: its master, and the process."""
    master, slave = open_terminal()
    master.size = (33, 101)
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    try:
        yield master, process
    finally:
        process.kill()
        process.wait()
        master.close()


@pytest.mark.parametrize(
    "script, code", [("true", 0), ("exit 7", 7), ("sh -c 'kill -KILL $$'; exit $?", 137)]
)
def test_exit_codes(ctr, script, code):
    ctr.run("sh", "-c", script, code=code)


def test_output_and_errors_are_apart(ctr):
    done = ctr.run("sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_input_until_its_end(ctr):
    """The fifo's write end closes, CloseIO follows, and the program sees the end of file."""
    text = "".join(f"line {n}\n" for n in range(20000))
    assert ctr.run("cat", stdin=None, input=text).stdout == text


def test_much_output_to_the_last_byte(ctr):
    done = ctr.run("sh", "-c", "seq 200000; exit 4", code=4)
    assert done.stdout == "".join(f"{n}\n" for n in range(1, 200001))


def test_terminal(ctr):
    words = ctr.daemon.command(*ctr.words("--rm", "-t", id=ctr.new_id(), command=("sh",)))
    with terminal(words) as (master, process):
        master.write("tty; echo $((6*7))\n")
        assert "/dev/pts/0" in master.until("42") or "/dev/console" in master.text
        master.write(
            "until [ \"$(stty size)\" = '33 101' ]; do sleep 0.05; done; echo first'size'\n"
        )
        master.until("firstsize")
        master.size = (44, 120)
        os.kill(process.pid, signal.SIGWINCH)
        master.write("until [ \"$(stty size)\" = '44 120' ]; do sleep 0.05; done; echo new'size'\n")
        master.until("newsize")
        master.write("exit 5\n")
        assert process.wait(20) == 5


def test_exec(ctr, handler):
    id = ctr.detached(*SLEEP, flags=("--env", "WHO=me", "--cwd", "/tmp"))
    done = ctr.exec(id, "sh", "-c", "echo $WHO $PWD; echo err >&2; exit 9", code=9)
    assert (done.stdout, done.stderr) == ("me /tmp\n", "err\n")
    assert ctr.exec(id, "pwd", flags=("--cwd", "/var")).stdout == "/var\n"
    assert ctr.exec(id, "id", "-u", flags=("--user", "1000")).stdout == "1000\n"
    # Once in some sixty times the reference loses what is written in the moment before the end.
    command = ("cat",) if handler == "skerry" else ("sh", "-c", "cat; sleep 0.2")
    assert ctr.exec(id, *command, stdin=None, input="typed").stdout == "typed"
    failed = ctr.exec(id, "nowhere", code=1)
    assert "executable file not found in $PATH" in failed.stderr
    assert ctr.status(id) == "RUNNING"


def test_exec_on_a_terminal(ctr):
    id = ctr.detached(*SLEEP)
    command = ("tasks", "exec", "--exec-id", "shell", "-t", id, "sh")
    with terminal(ctr.daemon.command(*command)) as (master, process):
        master.write(
            "until [ \"$(stty size)\" = '33 101' ]; do sleep 0.05; done; echo first'size'\n"
        )
        master.until("firstsize")
        master.write("exit 6\n")
        assert process.wait(20) == 6


@contextmanager
def beside(ctr, id: str, *command: str):
    """An exec that lasts, with the exec id `beside`, and its output."""
    words = ctr.daemon.command("tasks", "exec", "--exec-id", "beside", id, *command)
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        ctr.call("tasks", "kill", "--signal", "KILL", "--exec-id", "beside", id, code=None)
        process.communicate(timeout=20)


def test_exec_id_in_use(ctr):
    id = ctr.detached(*SLEEP)
    with beside(ctr, id, "sh", "-c", "echo ready; exec sleep inf") as process:
        assert process.stdout.readline() == "ready\n"
        again = ctr.call("tasks", "exec", "--exec-id", "beside", id, "true", code=1)
        assert "already exists" in again.stderr
    assert process.returncode == 137


def test_pause_and_resume(ctr):
    id = ctr.detached("sh", "-c", "while :; do :; done")
    with Events(ctr.daemon) as events:
        ctr.call("tasks", "pause", id)
        assert ctr.status(id) == "PAUSED"
        events.until(id, "paused")
        used = cpu_time(ctr.pid(id))
        with pytest.raises(TimeoutError):  # it would take no time if it ran
            host.eventually(lambda: cpu_time(ctr.pid(id)) > used, 0.3)
        ctr.call("tasks", "resume", id)
        events.until(id, "resumed")
        host.eventually(lambda: cpu_time(ctr.pid(id)) > used)
    assert ctr.status(id) == "RUNNING"


def cpu_time(pid: int) -> int:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def test_kill_of_a_paused_container(ctr):
    id = ctr.detached(*SLEEP)
    ctr.call("tasks", "pause", id)
    ctr.call("tasks", "kill", "--signal", "KILL", id)
    ctr.call(
        "tasks", "resume", id, code=None
    )  # SIGKILL alone thaws nothing on v1; runc's own way is left open
    ctr.until(id, "STOPPED")


def test_signals_by_name_and_number(ctr):
    for word, code in (("TERM", 3), ("15", 3), ("SIGKILL", 137)):
        id = ctr.detached(*ENDS_AT_TERM)
        host.eventually(lambda id=id: caught(ctr.pid(id), signal.SIGTERM))
        ctr.call("tasks", "kill", "--signal", word, id)
        ctr.until(id, "STOPPED")
        done = ctr.call("tasks", "delete", id)
        assert f"exit code {code}" in done.stderr


def caught(pid: int, number: int) -> bool:
    return bool(int(host.status_of(pid)["SigCgt"], 16) >> (number - 1) & 1)


def test_kill_of_what_has_ended(ctr):
    id = ctr.detached("true")
    ctr.until(id, "STOPPED")
    assert "process already finished" in ctr.call("tasks", "kill", id, code=1).stderr


def test_all_processes_are_listed(ctr):
    """Each with its pid; those of an exec with its id."""
    id = ctr.detached("sh", "-c", "sleep 1000 & sleep 1000 & wait")
    with beside(ctr, id, "sh", "-c", "echo ready; exec sleep inf") as process:
        assert process.stdout.readline() == "ready\n"
        rows = [line.split() for line in ctr.call("tasks", "ps", id).stdout.splitlines()[1:]]
    assert str(ctr.pid(id)) in [row[0] for row in rows]
    assert sorted("beside" in row[1] for row in rows) == [False, False, False, True]


def test_metrics(ctr):
    script = "x=$(dd if=/dev/zero bs=1048576 count=20 2>/dev/null | tr '\\0' x); touch /tmp/held; sleep 1000; :"
    id = ctr.detached("sh", "-c", script, flags=("--memory-limit", str(256 << 20)))
    host.eventually(lambda: ctr.exec(id, "ls", "/tmp").stdout == "held\n", 20)
    figures = json.loads(ctr.call("tasks", "metrics", "--format", "json", id).stdout)
    memory, stat = figures["memory"], memory_figures(ctr.pid(id))
    if host.is_v2():
        used, limit, anonymous = memory["usage"], memory["usage_limit"], memory["anon"]
        busy_ns, wanted = figures["cpu"]["usage_usec"] * 1000, stat["anon"]
    else:
        used, limit, anonymous = (
            memory["usage"]["usage"],
            memory["usage"]["limit"],
            memory["total_rss"],
        )
        busy_ns, wanted = figures["cpu"]["usage"]["total"], stat["total_rss"]
        assert used <= memory["usage"]["max"] <= limit
    assert limit == memory_limit(ctr.pid(id)) == 256 << 20
    assert 20 << 20 <= used <= limit
    assert abs(anonymous - wanted) < 4 << 20
    assert 0 < busy_ns <= cpu_usage_ns(ctr.pid(id))
    assert figures["pids"]["current"] == 2


def test_log_file(ctr, tmp_path, handler):
    """file://: both outputs, appended."""
    log = tmp_path / "log"
    log.write_text("before\n")
    uri = f"file://{log}"
    id = ctr.detached("sh", "-c", "echo out; echo err >&2", flags=("--log-uri", uri))
    ctr.until(id, "STOPPED")
    # runc's shim closes the file at the end of stdout, and loses what stderr still had.
    wanted = {"before", "out", "err"} if handler == "skerry" else {"before", "out"}
    host.eventually(lambda: wanted <= set(log.read_text().split()))
    assert sorted(log.read_text().split()) in (["before", "err", "out"], sorted(wanted))


# runc's shim closes the pipes when the task is deleted, and sends the program SIGTERM in the same moment.
LOGGER = """#!/bin/sh
trap '' TERM
exec 6>"{top}/told"
echo "$CONTAINER_ID $CONTAINER_NAMESPACE $*" >&6
exec 5>&-
cat <&3 >"{top}/out" &
cat <&4 >"{top}/err" &
wait
echo ended >&6
"""


def test_log_program(ctr, tmp_path):
    """binary://: the program gets both outputs as fds 3 and 4, and says by closing 5 that it is ready."""
    program = tmp_path / "logger"
    program.write_text(LOGGER.format(top=tmp_path))
    program.chmod(0o755)
    uri = f"binary://{program}?key=value"
    id = ctr.detached("sh", "-c", "echo out; echo err >&2; seq 1000", flags=("--log-uri", uri))
    ctr.until(id, "STOPPED")
    ctr.call("tasks", "delete", id)
    host.eventually(lambda: "ended" in (tmp_path / "told").read_text(), 20)
    told = (tmp_path / "told").read_text().splitlines()
    assert told == [f"{id} {ctr.daemon.token} key value", "ended"]
    assert (tmp_path / "out").read_text() == "out\n" + "".join(f"{n}\n" for n in range(1, 1001))
    assert (tmp_path / "err").read_text() == "err\n"


def test_log_program_that_is_missing(ctr):
    words = ctr.words(
        "--detach", "--log-uri", "binary:///nowhere/logger", id=ctr.new_id(), command=SLEEP
    )
    assert "no such file" in ctr.call(*words, code=1).stderr


def test_user_namespace(ctr):
    """The rootfs is the mapped user's, and root inside is nobody outside."""
    maps = ("--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536")
    id = ctr.detached(*SLEEP, flags=maps)
    assert ctr.exec(id, "cat", "/proc/self/uid_map").stdout.split() == ["0", "100000", "65536"]
    assert ctr.exec(id, "cat", "/proc/self/gid_map").stdout.split() == ["0", "200000", "65536"]
    assert ctr.exec(id, "stat", "-c", "%u %g", "/bin/busybox").stdout == "0 0\n"
    assert host.status_of(ctr.pid(id))["Uid"].split() == ["100000"] * 4
    done = ctr.run("sh", "-c", "touch /new; stat -c %u /new; exit 3", flags=maps, code=3)
    assert done.stdout == "0\n"


def test_flags_of_the_container(ctr):
    flags = ("--read-only", "--net-host", "--cpus", "0.5", "--memory-limit", str(64 << 20))
    id = ctr.detached(*SLEEP, flags=flags)
    assert "Read-only" in ctr.exec(id, "touch", "/new", code=1).stderr
    assert os.readlink(f"/proc/{ctr.pid(id)}/ns/net") == os.readlink(
        f"/proc/{ctr.daemon.nursery.pid}/ns/net"
    )
    assert cpu_quota(ctr.pid(id)) == 0.5
    assert memory_limit(ctr.pid(id)) == 64 << 20


def test_rootfs_that_containerd_does_not_manage(ctr):
    root = ctr.daemon.top / "template"
    words = (
        "run",
        *ctr.runtime_flags,
        "--rm",
        "--rootfs",
        str(root),
        ctr.new_id(),
        "/bin/ls",
        "/bin/probe",
    )
    assert ctr.call(*words).stdout == "/bin/probe\n"


def test_order_of_events(ctr):
    """create, start, exec-added, exec-started, the exec's exit, init's, delete; numbers agree with what was seen."""
    with Events(ctr.daemon) as events:
        id = ctr.detached(*SLEEP)
        pid = ctr.pid(id)
        ctr.call("tasks", "exec", "--exec-id", "e1", id, "sh", "-c", "exit 4", code=4)
        ctr.call("tasks", "kill", "--signal", "KILL", id)
        ctr.until(id, "STOPPED")
        ctr.call("tasks", "delete", id)
        found = events.until(id, "delete")
    assert [topic for topic, _ in found] == [
        "create",
        "start",
        "exec-added",
        "exec-started",
        "exit",
        "exit",
        "delete",
    ]
    bodies = [body for _, body in found]
    assert [body["pid"] for body in (bodies[0], bodies[1], bodies[5], bodies[6])] == [pid] * 4
    assert bodies[0]["bundle"].endswith(f"/{id}")
    assert (bodies[2]["exec_id"], bodies[3]["exec_id"], bodies[4]["id"], bodies[5]["id"]) == (
        "e1",
        "e1",
        "e1",
        id,
    )
    assert bodies[3]["pid"] == bodies[4]["pid"] not in (0, pid)
    assert [body["exit_status"] for body in bodies[4:]] == [4, 137, 137]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", bodies[5]["exited_at"])


def test_exit_event_of_what_ends_at_once(ctr):
    """An exit never comes before its start."""
    with Events(ctr.daemon) as events:
        ids = [ctr.detached("true") for _ in range(10)]
        for id in ids:
            assert [topic for topic, _ in events.until(id, "exit")] == ["create", "start", "exit"]


def test_out_of_memory_event(ctr):
    with Events(ctr.daemon) as events:
        id = ctr.detached("tail", "/dev/zero", flags=("--memory-limit", str(16 << 20)))
        topics = [topic for topic, _ in events.until(id, "exit")]
    assert "oom" in topics and topics.index("oom") < topics.index("exit")


def test_checkpoint_says_what_is_missing(ctr):
    """No CRIU here, or none for this runtime: an error that says so, and a container that goes on."""
    id = ctr.detached(*SLEEP)
    done = ctr.call("tasks", "checkpoint", id, code=1)
    assert re.search("criu|checkpoint", done.stderr, re.IGNORECASE)
    assert ctr.status(id) == "RUNNING"
    assert ctr.exec(id, "echo", "on").stdout == "on\n"


def test_unknown_options_are_named(ctr):
    """systemd's cgroup driver is runc's alone; asking skerry for it is an error, not another cgroup."""
    words = ctr.words("--rm", "--runc-systemd-cgroup", id=ctr.new_id(), command=("true",))
    assert "systemd" in ctr.call(*words, code=1).stderr
