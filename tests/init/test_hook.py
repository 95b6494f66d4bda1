"""HOOK: a program with bytes on its stdin and a clock."""

import errno
import os
import select
import signal
import time

import pytest
from assembler import DEADLINE_S, Label, Plan, eventually, is_dead

from skerry.plan import ops

STATE = b'{"ociVersion":"1.3.0","id":"c1"}'


def hook(plan: Plan, script: str, *, state: bytes = STATE, timeout_ms: int = 0, path="/bin/sh", env=()):
    args = plan.strings(["sh", "-c", script, "hook"])
    at = plan.blob(state)
    return plan.op("HOOK", plan.blob(path), args, plan.strings(list(env)), at, len(state), timeout_ms)


def run_hook(perform, script: str, **options):
    plan = Plan()
    plan.process = 2
    hook(plan, script, **options)
    plan.exit(0)
    return perform(plan)


@pytest.mark.parametrize("size", [0, 32, 65535, 65536, 65537, 1 << 20])
def test_state_on_stdin(perform, size, tmp_path):
    """Also more than a pipe holds at once."""
    state = bytes(range(1, 251)) * (size // 250 + 1)
    out = tmp_path / "seen"
    assert run_hook(perform, f"cat > {out}", state=state[:size]) == (0, None)
    assert out.read_bytes() == state[:size]


def test_stdin_may_be_opened_by_name(perform, tmp_path):
    """A hook written in shell reads /dev/stdin; a socket there would refuse."""
    out = tmp_path / "seen"
    assert run_hook(perform, f"cat /dev/stdin > {out}") == (0, None)
    assert out.read_bytes() == STATE


@pytest.mark.parametrize("size", [32, 1 << 20])
@pytest.mark.parametrize("script", ["exit 0", "exec <&-; exit 0"])
def test_a_hook_that_does_not_read(perform, script, size):
    """EPIPE is nothing to init, and SIGPIPE does not reach it."""
    assert run_hook(perform, script, state=b"x" * size) == (0, None)


def test_arguments_and_environment(perform, tmp_path):
    out = tmp_path / "seen"
    script = f'echo "$0" "$A" "$B" > {out}; env | grep -vE "^(PWD|SHLVL|_|OLDPWD)=" >> {out}'
    assert run_hook(perform, script, env=["A=1", "B=two words"]) == (0, None)
    assert out.read_text() == "hook 1 two words\nA=1\nB=two words\n"


@pytest.mark.parametrize(
    ("script", "code", "signal_number"),
    [("exit 3", 3, 0), ("exit 255", 255, 0), ("kill -9 $$", 0, 9), ("kill -TERM $$", 0, 15)],
)
def test_a_hook_that_fails(perform, script, code, signal_number):
    """errno 0, the wait status as value, what it said after the record."""
    status, record = run_hook(perform, f"echo said; echo and cried >&2; {script}")
    assert status == ops.EXIT_FAILED
    assert (record.kind, record.operation, record.errno, record.process) == (ops.FAILED, 0, 0, 2)
    assert record.value == code << 8 | signal_number
    assert record.rest == b"said\nand cried\n"


def test_output_is_bounded(perform):
    """The first 512 bytes are kept; the hook is never stopped by a pipe that nobody reads."""
    status, record = run_hook(perform, "seq 1 200000; exit 1")
    lines = "".join(f"{n}\n" for n in range(1, 200001)).encode()
    assert (status, record.value) == (1, 1 << 8)
    assert record.rest == lines[: ops.HOOK_OUTPUT_BYTES]


def test_output_of_a_hook_that_succeeds_is_dropped(perform):
    assert run_hook(perform, "seq 1 200000") == (0, None)


@pytest.mark.parametrize(
    ("path", "number"),
    [("/nonexistent", errno.ENOENT), ("/dev/null", errno.EACCES), ("/", errno.EACCES)],
)
def test_execve_that_fails(perform, path, number):
    status, record = run_hook(perform, "", path=path)
    assert (status, record.errno, record.rest) == (1, number, b"")


def test_timeout(perform):
    """The whole group dies; errno is ETIMEDOUT, value the wait status of the kill."""
    before = time.monotonic()
    status, record = run_hook(perform, "echo before; sleep 1000 & echo $!; wait", timeout_ms=300)
    assert 0.25 < time.monotonic() - before < 1.3
    assert (status, record.errno, record.value) == (1, errno.ETIMEDOUT, signal.SIGKILL)
    words = record.rest.split()
    assert words[0] == b"before"
    assert eventually(lambda: is_dead(int(words[1])))


def test_timeout_of_a_hook_that_ignores_signals(perform):
    status, record = run_hook(perform, "trap '' TERM INT HUP; sleep 1000", timeout_ms=200)
    assert (status, record.errno) == (1, errno.ETIMEDOUT)


def test_timeout_of_a_hook_that_left_its_group(perform):
    """Into init's own: the kill of the group that was made finds nobody, and must not be all."""
    script = "import os, signal; os.setpgid(0, os.getpgid(os.getppid())); signal.pause()"
    plan = Plan()
    args = plan.strings(["python3", "-ISc", script])
    plan.op("HOOK", plan.blob("/usr/bin/python3"), args, plan.strings([]), plan.blob(""), 0, 300)
    status, record = perform(plan)
    assert (status, record.errno, record.value) == (1, errno.ETIMEDOUT, signal.SIGKILL)


def test_timeout_does_not_wait_for_a_quick_hook(perform):
    before = time.monotonic()
    assert run_hook(perform, "exit 0", timeout_ms=60000) == (0, None)
    assert time.monotonic() - before < 5


def test_a_grandchild_with_the_output_open_does_not_hold_us(perform, tmp_path):
    """Nor is it killed: a hook may leave a daemon."""
    pid_file = tmp_path / "pid"
    before = time.monotonic()
    assert run_hook(perform, f"sleep 1000 & echo $! > {pid_file}") == (0, None)
    assert time.monotonic() - before < DEADLINE_S / 2
    os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_a_grandchild_does_not_hide_a_failure(perform, tmp_path):
    pid_file = tmp_path / "pid"
    status, record = run_hook(perform, f"sleep 1000 & echo $! > {pid_file}; echo why; exit 4")
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    assert (status, record.value, record.rest) == (1, 4 << 8, b"why\n")


def test_what_a_hook_starts_with(perform, tmp_path):
    """Its fds are 0, 1, 2; its group is its own; nothing is blocked or ignored (P05)."""
    out = tmp_path / "seen"
    plan = Plan()
    plan.op("SIGNALS")
    plan.call("rt_sigprocmask", 0, plan.blob(b"\xff" * 8, 8), 0, 8)
    for number in (3, 9, 10, 11, 17):
        plan.call("dup3", 1, number, 0, fail="IGNORE")
    # no shell: dash clears the mask it is given
    script = f"""
import os
fds = sorted(os.listdir("/proc/self/fd"))[:-1]  # the last is of the listing
status = open("/proc/self/status").read().split()
with open({str(out)!r}, "w") as file:
    print(os.getpid() == os.getpgrp(), *fds, file=file)
    print(status[status.index("SigBlk:") + 1], status[status.index("SigIgn:") + 1], file=file)
    """
    words = plan.strings(["python3", "-ISc", script])
    plan.op("HOOK", plan.blob("/usr/bin/python3"), words, plan.strings([]), plan.blob(""), 0, 0)
    assert perform(plan) == (0, None)
    fds, signals = out.read_text().splitlines()
    assert fds == "True 0 1 2"
    # CPython itself ignores SIGPIPE and SIGXFSZ
    assert signals == "0000000000000000 0000000001001000"


def test_the_mask_of_init_is_as_before(start):
    """SIGPIPE is blocked while the hook runs, and then no more."""
    plan = Plan()
    plan.call("rt_sigprocmask", 2, plan.blob((1 << signal.SIGUSR1 - 1).to_bytes(8, "little"), 8), 0, 8)
    hook(plan, "exec <&-; exit 0", state=b"x" * 100000)
    words = plan.strings(["grep", "-E", "Sig(Pnd|Blk)|ShdPnd", "/proc/self/status"])
    plan.call("execve", plan.blob("/bin/grep"), words, plan.strings([]))
    words = start(plan, stdout=-1).process.stdout.read().decode().split()
    assert words == ["SigPnd:", "0" * 16, "ShdPnd:", "0" * 16, "SigBlk:", f"{1 << signal.SIGUSR1 - 1:016x}"]


def test_low_fds_may_be_closed(perform, tmp_path):
    out = tmp_path / "seen"
    plan = Plan()
    for number in (0, 1, 2):
        plan.call("close", number)
    hook(plan, f"cat > {out}; echo fine")
    hook(plan, f"cat >> {out}; exit 5")
    status, record = perform(plan)
    assert (status, record.value) == (1, 5 << 8)
    assert out.read_bytes() == STATE * 2


def test_init_keeps_no_fd_of_a_hook(start):
    plan = Plan()
    for _ in range(5):
        hook(plan, "echo; exit 0")
    plan.op("SEND", ops.READY, 0, -1)
    plan.op("RECV", ops.GO, 0, 0)
    run = start(plan)
    before = {"0", "1", "2"}
    assert run.record().kind == ops.READY
    # plan, conversation
    assert len(set(os.listdir(f"/proc/{run.process.pid}/fd")) - before) == 2


def test_hooks_die_with_init(start, tmp_path):
    """PR_SET_PDEATHSIG: a killed create leaves no hook behind."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    plan = Plan()
    hook(plan, f"exec 3> {fifo}; echo $$ >&3; exec sleep 1000")
    run = start(plan)
    with open(fifo) as seen:
        pid = int(seen.readline())
        run.process.kill()
        assert select.select([seen], [], [], DEADLINE_S)[0]
        assert seen.read() == ""
    assert eventually(lambda: is_dead(pid))


def test_length_in_a_register(perform, tmp_path):
    """RECV's value says how many bytes of the room are the state."""
    out = tmp_path / "seen"
    plan = Plan()
    length = plan.register()
    plan.op("LOAD", plan.blob((5).to_bytes(8, "little"), 8), 8, to=length)
    args = plan.strings(["sh", "-c", f"cat > {out}"])
    state = plan.blob(b"state and more")
    plan.op("HOOK", plan.blob("/bin/sh"), args, plan.strings([]), state, length, 0)
    assert perform(plan) == (0, None)
    assert out.read_bytes() == b"state"


def test_length_in_a_register_out_of_the_data(perform):
    plan = Plan()
    length = plan.register()
    plan.op("LOAD", plan.blob((500).to_bytes(8, "little"), 8), 8, to=length)
    args = plan.strings(["sh"])
    plan.op("HOOK", plan.blob("/bin/sh"), args, plan.strings([]), plan.blob("state"), length, 0)
    status, record = perform(plan)
    assert (status, record.errno) == (1, errno.EFAULT)


def test_in_a_new_pid_namespace(perform, tmp_path):
    """createContainer hooks run in the container's namespaces, as children of what is pid 1 there."""
    out = tmp_path / "seen"
    plan = Plan()
    child = Label()
    pid = plan.fork(child, 0x20000000)
    plan.op("WAIT", pid)
    plan.exit(0)
    plan.here(child)
    hook(plan, f"echo $$ $PPID > {out}")
    hook(plan, "exec sleep 1000", timeout_ms=100)
    status, record = perform(plan)
    assert out.read_text() == "2 1\n"
    assert (status, record.errno) == (1, errno.ETIMEDOUT)


def test_a_hook_is_reaped(perform):
    """No zombie is left to init."""
    plan = Plan()
    hook(plan, "exit 0")
    plan.call("wait4", -1, 0, 1, 0)
    status, record = perform(plan)
    assert (status, record.errno) == (1, errno.ECHILD)
