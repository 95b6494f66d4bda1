"""Host hooks: order, state, time, output, and what they leave behind (lifecycle 129)."""

import json
import os
import posix
import signal
import sys
import time

import pytest

from skerry.errors import HookError
from skerry.hooks import run_host_hooks
from skerry.linux import process
from skerry.linux.fd import open_fds

STATE = {"ociVersion": "1.3.0", "id": "c", "pid": 42, "status": "creating", "bundle": "/b"}


@pytest.fixture(autouse=True)
def nothing_stays():
    """No descriptor stays open, no child unreaped."""
    before = open_fds()
    yield
    assert open_fds() == before
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)


def shell(script, **more):
    return {"path": "/bin/sh", "args": ["sh", "-c", script], **more}


def test_they_run_in_order_with_the_state_on_stdin(tmp_path):
    hooks = [shell(f"echo {n} >> {tmp_path}/order; cat > {tmp_path}/state{n}") for n in range(3)]
    run_host_hooks("prestart", hooks, STATE)
    assert (tmp_path / "order").read_text().split() == ["0", "1", "2"]
    for number in range(3):
        assert json.loads((tmp_path / f"state{number}").read_text()) == STATE


def test_one_that_left_its_group_is_killed_at_the_timeout():
    """No wait without an end: its old group has nobody in it to kill."""
    script = "import os, time; os.setpgid(0, os.getpgid(os.getppid())); time.sleep(1000)"
    hook = {"path": sys.executable, "args": ["python3", "-c", script], "timeout": 1}
    before = time.monotonic()
    with pytest.raises(HookError, match="ran past specified timeout"):
        run_host_hooks("prestart", [hook], STATE)
    assert time.monotonic() - before < 2


def test_without_hooks_nothing_happens():
    run_host_hooks("prestart", [], {"not JSON": object()})


def test_the_state_can_be_read_twice_and_by_name(tmp_path):
    """Scripts read /dev/stdin as often as cat's stdin."""
    run_host_hooks("prestart", [shell(f"cat /dev/stdin /dev/stdin > {tmp_path}/twice")], STATE)
    text = (tmp_path / "twice").read_text()
    assert text[: len(text) // 2] == text[len(text) // 2 :]
    assert json.loads(text[: len(text) // 2]) == STATE


def test_args_default_to_the_path(tmp_path):
    script = tmp_path / "hook"
    script.write_text(f'#!/bin/sh\necho "$0 $#" > {tmp_path}/seen\n')
    script.chmod(0o755)
    run_host_hooks("prestart", [{"path": str(script)}], STATE)
    assert (tmp_path / "seen").read_text() == f"{script} 0\n"


def test_env_is_the_hooks_or_ours(tmp_path, monkeypatch):
    """decisions.md 28."""
    monkeypatch.setenv("OURS", "inherited")
    hooks = [
        shell(f'echo "$OURS-$THEIRS" > {tmp_path}/without'),
        shell(f'echo "$OURS-$THEIRS" > {tmp_path}/with', env=["THEIRS=given", "PATH=/bin"]),
        shell(f'echo "$OURS-$THEIRS" > {tmp_path}/empty', env=[]),
    ]
    run_host_hooks("prestart", hooks, STATE)
    assert (tmp_path / "without").read_text() == "inherited-\n"
    assert (tmp_path / "with").read_text() == "-given\n"
    assert (tmp_path / "empty").read_text() == "-\n"


def test_the_first_failure_ends_it_lifecycle_129(tmp_path):
    hooks = [shell("true"), shell("echo out; echo err >&2; exit 7"), shell(f"> {tmp_path}/third")]
    with pytest.raises(HookError) as caught:
        run_host_hooks("createRuntime", hooks, STATE)
    assert str(caught.value) == (
        "error running createRuntime hook #1: exit status 7, output: out\\nerr"
    )
    assert not (tmp_path / "third").exists()


def test_with_warn_the_next_one_runs(tmp_path):
    """poststop: a failure is a warning."""
    heard = []
    hooks = [shell("exit 1"), {"path": "/nonexistent"}, shell(f"> {tmp_path}/third")]
    run_host_hooks("poststop", hooks, STATE, warn=heard.append)
    assert heard == [
        "error running poststop hook #0: exit status 1",
        "error running poststop hook #1: cannot execute /nonexistent: "
        "ENOENT (no such file or directory)",
    ]
    assert (tmp_path / "third").exists()


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ({"path": "/nonexistent"}, "no such file or directory"),
        ({"path": "/etc/passwd"}, "permission denied"),
        ({"path": "bin/true"}, "the path bin/true is not absolute"),
        (shell("kill -9 $$"), "killed by signal 9"),
    ],
)
def test_what_went_wrong_is_said(hook, words):
    with pytest.raises(HookError) as caught:
        run_host_hooks("prestart", [hook], STATE)
    assert str(caught.value).startswith("error running prestart hook #0: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("deaf", [False, True])
def test_at_the_timeout_the_whole_group_is_killed(tmp_path, deaf):
    """security.md 6, hooks."""
    fifo = tmp_path / "pids"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    trap = "trap '' TERM INT HUP; " if deaf else ""
    script = f"{trap}sleep 1000 & echo $$ $! > {fifo}; echo waiting; wait; sleep 1000"
    before = time.monotonic()
    with pytest.raises(HookError) as caught:
        run_host_hooks("prestart", [shell(script, timeout=1)], STATE)
    assert 1 <= time.monotonic() - before < 2  # lifecycle: within the timeout and a second
    assert str(caught.value) == (
        "error running prestart hook #0: hook ran past specified timeout of 1.0s, output: waiting"
    )
    hook, child = map(int, os.read(reader, 100).split())
    os.close(reader)
    assert process.start_time(hook) == 0
    await_end(child)


def test_a_child_that_keeps_the_output_open_does_not_keep_us(tmp_path):
    """security.md 6, hooks: a child holding stdout."""
    script = f"sleep 1000 & echo $! > {tmp_path}/pid; echo going; exit 3"
    before = time.monotonic()
    with pytest.raises(HookError, match="exit status 3, output: going$"):
        run_host_hooks("prestart", [shell(script, timeout=100)], STATE)
    assert time.monotonic() - before < 20
    child = int((tmp_path / "pid").read_text())
    # It was not the hook's time that ended, so nobody killed it.
    assert process.is_alive(child, process.start_time(child))
    os.kill(child, signal.SIGKILL)
    await_end(child)


def test_a_flood_is_read_and_forgotten():
    script = "echo START; head -c 5000000 /dev/zero | tr '\\0' x; echo END; exit 1"
    with pytest.raises(HookError) as caught:
        run_host_hooks("prestart", [shell(script)], STATE)
    assert 400 < len(str(caught.value)) <= 500
    assert "exit status 1, output: START\\nxxx" in str(caught.value)
    assert str(caught.value).endswith("xxx")


def test_a_hook_that_closes_its_output_is_waited_for_without_spinning(monkeypatch):
    calls = []
    read = posix.read

    def counted(*arguments):
        calls.append(arguments)
        return read(*arguments)

    monkeypatch.setattr(posix, "read", counted)
    run_host_hooks("prestart", [shell("exec > /dev/null 2>&1; sleep 0.1")], STATE)
    assert len(calls) < 10


def test_odd_output_is_one_printable_line():
    """security.md 7."""
    script = r"printf 'a\033[31mb\000c\377d\r\ne'; exit 1"
    with pytest.raises(HookError) as caught:
        run_host_hooks("prestart", [shell(script)], STATE)
    assert str(caught.value).isprintable()
    assert r"output: a\x1b[31mb\x00c\xffd\r\ne" in str(caught.value)


def test_a_state_that_nobody_reads_hinders_nobody():
    """64 MiB, more than any pipe holds."""
    state = {**STATE, "annotations": {"big": "x" * (64 << 20)}}
    run_host_hooks("prestart", [shell("exec true"), shell("head -c 10 > /dev/null")], state)


def test_a_big_state_arrives_whole(tmp_path):
    state = {**STATE, "annotations": {"big": "x" * (8 << 20)}}
    run_host_hooks("prestart", [shell(f"cat > {tmp_path}/state")], state)
    assert json.loads((tmp_path / "state").read_text()) == state


def test_a_hook_starts_clean(tmp_path):
    """P05, V12: default dispositions, empty mask, its own group, no descriptor of ours."""
    leaked = os.open("/", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
    script = (
        f"ls /proc/self/fd > {tmp_path}/fds; grep ^Sig /proc/self/status > {tmp_path}/signals;"
        f" ps -o pid=,pgid= -p $$ > {tmp_path}/group"
    )
    try:
        run_host_hooks("prestart", [shell(script)], STATE)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
        os.close(leaked)
    numbers = {int(word) for word in (tmp_path / "fds").read_text().split()}
    assert numbers == {0, 1, 2, 3}  # 3 is what ls reads the directory by
    lines = (tmp_path / "signals").read_text().splitlines()
    masks = {name: int(value, 16) for name, value in (line.split() for line in lines[1:])}
    assert masks["SigBlk:"] == 0
    assert masks["SigIgn:"] & ~(0b11 << 31) == 0  # 32 and 33 are glibc's own
    pid, group = (tmp_path / "group").read_text().split()
    assert pid == group


def test_closed_standard_descriptors_do_no_harm(tmp_path):
    def run():
        for number in (0, 1, 2):
            os.close(number)
        hook = shell(f"cat > {tmp_path}/state; echo out; echo err >&2")
        run_host_hooks("prestart", [hook], STATE)
        return 0

    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = run()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert json.loads((tmp_path / "state").read_text()) == STATE


def test_an_interrupted_wait_leaves_no_hook(tmp_path, monkeypatch):
    """Whatever ends the wait, the hook ends with it."""
    seen = []

    class Interrupt(Exception):
        pass

    def collect(pidfd, reader, timeout_s):
        os.read(reader, 10)
        seen.append(int((tmp_path / "pid").read_text()))
        raise Interrupt

    monkeypatch.setattr("skerry.hooks._collect", collect)
    with pytest.raises(Interrupt):
        run_host_hooks(
            "prestart", [shell(f"echo $$ > {tmp_path}/pid; echo; exec sleep 1000")], STATE
        )
    assert process.start_time(seen[0]) == 0


def await_end(pid):
    """The end of a process that is not ours: it is reaped by whoever adopted it."""
    deadline = time.monotonic() + 20
    while process.start_time(pid) and not process.zombie(pid):
        assert time.monotonic() < deadline
