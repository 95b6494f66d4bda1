"""run: foreground exit codes, signals, detach, stdio, --keep."""

import os
import signal
import subprocess

import pytest
from support import host
from support.box import Box
from support.runtime import Stream
from support.spec import drop_namespace, fresh_spec, shell


@pytest.mark.parametrize("code", [0, 1, 7, 125, 255])
def test_exit_code(box: Box, code: int) -> None:
    """lifecycle 92."""
    assert box.run(shell(f"exit {code}")).code == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_death_by_signal(box: Box, number: int) -> None:
    """lifecycle 92, P: 128 + signal."""
    spec = shell(f"kill -{int(number)} $$")
    drop_namespace(spec, "pid")
    assert box.run(spec).code == 128 + number


def test_run_removes_the_container(box: Box) -> None:
    """lifecycle 92."""
    id = box.new_id()
    box.run(fresh_spec(), id=id).ok()
    box.runtime.call("state", id).failed()
    assert box.leftovers() == []


def test_keep(box: Box) -> None:
    """lifecycle 92: --keep leaves it stopped, for delete."""
    id = box.new_id()
    assert box.run(shell("exit 5"), "--keep", id=id).code == 5
    assert box.runtime.call("state", id).ok().json()["status"] == "stopped"
    box.runtime.call("delete", id).ok()


@pytest.mark.skerry_only("lifecycle 17: who reaps init writes `exit`")
def test_keep_after_a_signal_is_still_stopped(box: Box) -> None:
    id = box.new_id()
    box.run(shell("exit 5"), "--keep", id=id)
    box.runtime.call("start", id).failed().says("cannot start a container that has stopped")


def test_stdin_stdout_stderr(box: Box) -> None:
    """lifecycle 64: three streams, byte for byte."""
    data = bytes(range(256)) * 40
    out, err = os.memfd_create("out"), os.memfd_create("err")
    box.run(shell("cat; echo problem >&2"), stdin=data, stdout=out, stderr=err).ok()
    assert os.pread(out, 1 << 20, 0) == data
    assert os.pread(err, 1 << 20, 0) == b"problem\n"


def test_end_of_stdin_reaches_the_program(box: Box) -> None:
    assert box.run(shell("cat; echo end"), stdin=b"").ok().out == "end\n"


def test_large_output(box: Box) -> None:
    out = os.memfd_create("out")
    box.run(fresh_spec("dd", "if=/dev/zero", "bs=1M", "count=32"), stdout=out).ok()
    assert os.fstat(out).st_size == 32 << 20


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1", "QUIT"])
def test_signals_are_forwarded(box: Box, name: str) -> None:
    """features: all but CHLD and URG."""
    end, out = os.pipe()
    running = box.spawn_run(fresh_spec("probe", "catch"), stdout=out)
    os.close(out)
    stream = Stream(end)
    stream.until("ready")
    number = getattr(signal, f"SIG{name}")
    running.signal(number)
    assert running.finish().code == number
    assert f"signal {int(number)}" in stream.rest()
    stream.close()


def test_signal_that_kills_gives_128_plus(box: Box) -> None:
    end, out = os.pipe()
    spec = shell("echo ready; exec sleep 1000")
    drop_namespace(spec, "pid")
    running = box.spawn_run(spec, stdout=out)
    os.close(out)
    stream = Stream(end)
    stream.until("ready")
    running.signal(signal.SIGTERM)
    assert running.finish().code == 128 + signal.SIGTERM
    stream.close()


def test_background_child_does_not_hold_run(box: Box) -> None:
    """The end of init is the end, whoever still has stdout open."""
    spec = shell("sleep 1000 & echo up")
    result = box.run(spec)
    assert result.ok().out == "up\n"


def test_detach(box: Box) -> None:
    """lifecycle 92: returns after start."""
    where = box.bundle(fresh_spec("probe", "park"))
    id = box.new_id()
    box.try_create(None, "--detach", verb="run", bundle=where, id=id).ok()
    state = box.runtime.call("state", id).ok().json()
    assert state["status"] == "running"
    assert state["pid"] == int((where / "pid").read_text())


def test_detached_container_does_not_hold_the_pipe_of_the_runtime(box: Box) -> None:
    """What the caller gave as stdio the container has; nothing else keeps it open."""
    end, out = os.pipe()
    box.try_create(shell("exec >/dev/null 2>&1; probe park"), "-d", verb="run", stdout=out).ok()
    os.close(out)
    stream = Stream(end)
    assert stream.rest() == ""
    stream.close()


def test_run_that_fails_leaves_nothing(box: Box) -> None:
    """lifecycle 93, 157."""
    for spec in (fresh_spec("none"), fresh_spec()):
        spec["hooks"] = {"poststart": [{"path": "/bin/false"}]}
        result = box.run(spec)
        assert result.code == 1, result
        assert box.leftovers() == [], result


def test_pid_file_of_run(box: Box) -> None:
    box.run(fresh_spec(), "--pid-file", box.dir / "pid").ok()
    assert (box.dir / "pid").read_text().isdigit()


def test_closed_stdio_of_the_caller(box: Box) -> None:
    """decisions 10: missing 0-2 become /dev/null, never something that was opened meanwhile."""
    where = box.bundle(fresh_spec("probe", "fds"))
    out = box.dir / "out"
    spec = shell(f"probe fds > /out/{out.name}")
    (box.dir / "shared").mkdir()
    spec["mounts"].append(
        {"destination": "/out", "type": "bind", "source": str(box.dir / "shared"), "options": ["bind"]}
    )
    where = box.bundle(spec)
    (where / "rootfs/out").mkdir()
    script = 'exec "$0" --root "$1" run --bundle "$2" "$3" <&- >&- 2>&-'
    line = ["sh", "-c", script, box.runtime.binary, str(box.runtime.root), str(where), box.new_id()]
    assert subprocess.run(line, timeout=20).returncode == 0
    rows = dict(line.split(" ", 1) for line in (box.dir / "shared/out").read_text().splitlines())
    assert rows["0"] == rows["2"] == "/dev/null"
    assert set(rows) == {"0", "1", "2"}


def test_reaps_what_falls_to_init(box: Box) -> None:
    """An orphan's end does not end the run."""
    assert box.run(shell("(true &); echo up; exit 4")).code == 4


@pytest.mark.parametrize("flag", ["--no-subreaper", "--no-new-keyring", "--no-pivot"])
def test_flags_that_engines_pass(box: Box, flag: str) -> None:
    assert box.run(shell("echo up"), flag).ok().out == "up\n"


def test_session_keyring_is_new(box: Box) -> None:
    """features: a new session keyring by default. -3 is the session keyring of keyctl(2), command 0 asks its id."""
    spec = fresh_spec("probe", "call", "keyctl", "0", "-3", "0")
    first, second = (box.run(spec).ok().out for _ in range(2))
    assert first != second
    assert int(first) > 0


def test_run_waits_for_init_not_for_execs(box: Box) -> None:
    end, out = os.pipe()
    id = box.new_id()
    running = box.spawn_run(fresh_spec("probe", "park"), stdout=out, id=id)
    os.close(out)
    stream = Stream(end)
    stream.until("ready")
    box.runtime.call("exec", "--detach", id, "sleep", "1000").ok()
    box.runtime.call("kill", id, "TERM").ok()
    assert running.finish_reaping().code == 0
    stream.close()
    host.eventually(lambda: box.leftovers() == [])
