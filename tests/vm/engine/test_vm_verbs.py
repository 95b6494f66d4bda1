"""Each verb on a container in a VM: the same outputs, states and exit codes as without one."""

import json
import os
import signal

import pytest
from support import host
from support.box import Box
from support.spec import drop_namespace, fresh_spec
from support.vm_box import VmBox

KIBI, MIBI = 1 << 10, 1 << 20


def shell(text: str) -> dict:
    return fresh_spec("sh", "-c", text)


def test_life_of_a_container(box: VmBox) -> None:
    """lifecycle 44, 47, 69, 72, 90, 99, 102, 138: every verb once, in one VM."""
    container = box.create(shell("echo out; echo err >&2; probe park"))
    assert container.status == "created"
    assert set(box.keys(container.id)) >= {"state", "resources", "netns", "shim"} and "pid" not in box.keys(container.id)
    assert container.state()["pid"] == container.pid == box.keys(container.id)["shim"]["pid"]
    container.start()
    container.stream.until("ready")
    assert container.status == "running" and container.stream.text.startswith("out\n")
    inside = box.keys(container.id)["pid"]["pid"]
    assert inside in json.loads(container.verb("ps", "-f", "json").ok().out)
    lines = container.verb("ps").ok().lines
    assert lines[0].split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert [line.split()[1] for line in lines[1:]] == [str(inside)]
    container.verb("start").failed().says("cannot start an already running container")
    assert container.exec("sh", "-c", "exit 9").code == 9
    assert container.exec("cat", stdin=b"fed").ok().out == "fed"
    assert container.exec("sh", "-c", "echo $X; pwd", flags=("-e", "X=y", "--cwd", "/bin")).ok().lines == ["y", "/bin"]
    container.exec("nothing-such").failed(255).says("executable file not found in $PATH")
    container.verb("pause").ok()
    assert container.status == "paused"
    container.exec("true").failed(255).says("cannot exec in a paused container")
    container.verb("resume").ok()
    assert container.status == "running"
    stats = json.loads(container.verb("events", "--stats").ok().out)["data"]
    assert stats["memory"]["usage"]["usage"] > 0 and stats["vm"]
    box.runtime.call("update", "--pids-limit", 77, container.id).ok()
    assert json.loads(container.verb("events", "--stats").ok().out)["data"]["pids"]["limit"] == 77
    assert container.kill("TERM").out == ""
    assert container.wait() == 0
    end = box.keys(container.id)["exit"]
    assert (end["code"], end["signal"], end["reason"]) == (0, 0, "exit")
    assert container.state()["pid"] == 0
    container.verb("start").failed().says("cannot start a container that has stopped")
    container.exec("true").failed(255).says("cannot exec in a stopped container")
    container.verb("ps").failed().says("container is stopped")
    container.delete().ok()


def test_exit_codes_and_output(box: VmBox) -> None:
    """lifecycle 73, 92: all output is there before the end, and the code is the program's."""
    result = box.run(shell("i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done; exit 7"))
    assert result.code == 7 and len(result.lines) == 3000
    assert box.run(shell("kill -9 $$"), id=box.new_id()).code in (137, 0)  # pid 1 is spared by its namespace


def test_open_stdin_does_not_delay_the_end(box: VmBox) -> None:
    """lifecycle 73."""
    reader, writer = os.pipe()
    try:
        assert box.spawn_run(fresh_spec("true"), stdin=reader).finish(60).code == 0
    finally:
        os.close(reader)
        os.close(writer)


def test_reader_that_goes_away(box: VmBox) -> None:
    """What nobody reads ends the writer, as a broken pipe does on the host."""
    reader, writer = os.pipe()
    os.close(reader)
    result = box.spawn_run(shell("while echo x; do :; done; exit 3"), stdout=writer)
    os.close(writer)
    assert result.finish(60).code in (3, 141)


def test_signals_reach_the_program(box: VmBox) -> None:
    """lifecycle 76, 109, 151 (B7): by `kill` and by the pid of the pid file; the very signal, of a member, too."""
    owner = box.parked(fresh_spec())
    member = box.member(owner, shell("trap 'echo got usr2' USR2; trap 'echo got hup; exit 4' HUP; echo ready; while :; do sleep 0.1; done"))
    member.stream.until("ready")
    member.kill("USR2")
    member.stream.until("got usr2")
    os.kill(member.pid, signal.SIGUSR2)
    host.eventually(lambda: member.stream.until("got usr2\ngot usr2"), 10)
    os.kill(member.pid, signal.SIGHUP)
    assert member.wait() == 4
    assert owner.status == "running"


def test_unknown_program_is_told_by_create(box: VmBox) -> None:
    """lifecycle 53, 67: and the id is free again."""
    id = box.new_id()
    box.try_create(fresh_spec("nothing-such"), id=id).failed().says("executable file not found in $PATH")
    assert box.leftovers() == []
    box.create(fresh_spec(), id=id)


def test_terminal(box: VmBox, null: int) -> None:
    """lifecycle 111, 132, 138: a terminal in the guest behind one on the host."""
    from support.terminal import ConsoleSocket

    spec = fresh_spec("sh", "-c", "stty size; read x; stty size; echo got $x; exit 5")
    spec["process"]["terminal"] = True
    spec["process"]["consoleSize"] = {"height": 11, "width": 33}
    console = ConsoleSocket(box.dir / "console")
    container = box.create(spec, "--console-socket", console.path, stdout=null)
    stream = console.receive()
    console.close()
    container.start()
    stream.until("11 33")
    box.runtime.call("resize-tty", container.id, 44, 22).ok()
    stream.write("word\n")
    stream.until("22 44")
    stream.until("got word")
    assert container.wait() == 5
    stream.close()


def test_execs_at_once(box: VmBox) -> None:
    """lifecycle 75, 98, 138: any number, each with its own streams and code; the keys are its shim's."""
    container = box.parked(fresh_spec())
    running = [
        box.runtime.spawn("exec", container.id, "sh", "-c", f"read x; echo {n} $x; exit {n}", stdin=f"w{n}\n".encode())
        for n in range(4)
    ]
    for n, one in enumerate(running):
        result = one.finish(60)
        assert (result.code, result.out) == (n, f"{n} w{n}\n")
    pid_file = box.dir / "exec.pid"
    box.runtime.call("exec", "-d", "--pid-file", pid_file, container.id, "probe", "park").ok()
    pid = int(pid_file.read_text())
    facts = box.keys(container.id)[f"exec-{pid}"]
    assert facts["pid"] in json.loads(container.verb("ps", "-f", "json").ok().out) and facts["tty"] is False
    os.kill(pid, signal.SIGTERM)
    host.eventually(lambda: f"exec-{pid}" not in box.keys(container.id), 10)
    assert container.status == "running"


def test_flags_that_cannot_be(box: VmBox) -> None:
    """lifecycle 137: refused by name, before anything is made."""
    reader, writer = os.pipe()
    result = box.try_create(fresh_spec(), "--preserve-fds", 1, fds=(reader,))
    result.failed().says("--preserve-fds")
    box.try_create(fresh_spec(), "--pidfd-socket", box.dir / "s").failed().says("--pidfd-socket")
    os.close(reader)
    os.close(writer)
    assert box.leftovers() == []


def test_notify_socket_is_ignored(box: VmBox) -> None:
    """lifecycle 131, 137: told once, and nothing waits for what cannot be said."""
    env = {"NOTIFY_SOCKET": f"@{box.token}"}
    result = box.run(shell("echo ${NOTIFY_SOCKET-none}; ls -d /run/notify || echo none"), env=env).ok()
    assert result.lines == ["none", "none"]
    warnings = [line for line in result.err.splitlines() if "NOTIFY_SOCKET" in line]
    assert len(warnings) == 1, result


def test_leftovers_of_init_are_asked_to_end(box: VmBox) -> None:
    """lifecycle 74: what shares the VM's pid namespace gets TERM, and init's shim waits for it."""
    spec = shell("(trap 'echo child ends; exit' TERM; echo up; while :; do sleep 0.1; done) & sleep 0.5; exit 3")
    drop_namespace(spec, "pid")
    container = box.start(spec)
    container.stream.until("up")
    assert container.wait(30) == 3
    container.delete().ok()


def test_unresponsive_leftovers_are_ended_at_the_limit(box: VmBox) -> None:
    """lifecycle 74, 146 (B2): the limit counts for one that was asked, and hangs."""
    spec = shell("(trap '' TERM; echo up; while :; do sleep 0.1; done) & sleep 0.5; exit 3")
    drop_namespace(spec, "pid")
    container = box.create(spec, env={"SKERRY_TIMEOUT_STOP": "2"})
    container.start()
    container.stream.until("up")
    assert container.wait(30) == 3


def test_limits_hold_in_the_guest(box: VmBox) -> None:
    """lifecycle 140, 141: between containers of one VM; the reason is oom."""
    owner = box.parked(fresh_spec())
    spec = shell("x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo survived")
    spec["linux"]["resources"]["memory"] = {"limit": 16 * MIBI, "swap": 16 * MIBI}
    drop = box.member(owner, spec)
    end = box.until_stopped(drop, 60)
    assert (end["signal"], end["reason"]) == (9, "oom") or "survived" not in drop.stream.rest()
    assert owner.status == "running"


def test_oom_event(box: VmBox) -> None:
    """lifecycle 141: `events` tells it."""
    spec = shell("read x; y=$(head -c 60000000 /dev/zero | tr '\\0' x); probe park")
    spec["linux"]["resources"]["memory"] = {"limit": 16 * MIBI, "swap": 16 * MIBI}
    reader, writer = os.pipe()
    container = box.create(spec, stdin=reader)
    os.close(reader)
    container.start()
    end, out = os.pipe()
    watching = box.runtime.spawn("events", "--interval", "100ms", container.id, stdout=out)
    os.close(out)
    stream = type(container.stream)(end)
    stream.until('"type":"stats"')
    os.write(writer, b"go\n")
    os.close(writer)
    stream.until('"type":"oom"')
    stream.close()
    container.delete("--force")
    watching.finish(60)


@pytest.mark.parametrize("isolation", ["annotation", "section", "flag"])
def test_ways_to_ask_for_a_vm(box: VmBox, isolation: str) -> None:
    """lifecycle 18: and the kernel is not the host's."""
    spec = fresh_spec("uname", "-r")
    if isolation == "annotation":
        spec["annotations"] = {"run.skerry.isolation": "vm"}
    if isolation == "section":
        spec["vm"] = {"hwConfig": {"memory": 512 << 20, "vcpus": 1}}
    if isolation != "flag":
        box.runtime.isolation = ""
    result = box.run(spec).ok()
    assert result.out.strip() != os.uname().release


def test_process_flag_overrides(box: VmBox) -> None:
    """lifecycle 18."""
    spec = fresh_spec("uname", "-r")
    spec["vm"] = {}
    assert box.run(spec, "--isolation", "process").ok().out.strip() == os.uname().release
    box.try_create(spec, "--isolation", "jail").failed().says('invalid isolation "jail"')


def test_spec_with_a_section(box: Box) -> None:
    box.runtime.call("spec", "--isolation", "vm", cwd=box.dir).ok()
    assert json.loads((box.dir / "config.json").read_text())["vm"]["hwConfig"]["vcpus"] == 2
