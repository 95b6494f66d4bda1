"""exec when something dies or fails under it: a plain error, no process outside, the container untouched."""

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import host, leaks
from support.box import Box, Container
from support.cgroups import HugetlbAsBefore, in_pure_v2
from support.plans import replace
from support.spec import drop_namespace, fresh_spec, namespace, shell

from skerry.addition import Process
from skerry.container import Container as Core
from skerry.container import open_store
from skerry.errors import Error, InitError, StateError
from skerry.linux import abi
from skerry.native import facts, launch
from skerry.native.conversation import Conversation
from skerry.plan.build import Plan

EVERY = os.environ.get("SKERRY_ROUNDS") == "all"
_NO_CALL = "none"


def load(container: Container) -> Core:
    return Core.load(open_store(str(container.box.runtime.root)), container.id)


def exec_in(container: Container, *args: str) -> Process:
    process = {"args": list(args), "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"]}
    null = os.open("/dev/null", os.O_RDWR)
    try:
        return load(container).exec(process, stdio=(null, null, null), detach=True)
    finally:
        os.close(null)


def keys(container: Container) -> list[str]:
    directory = container.box.runtime.root / container.id
    return [name for name in os.listdir(directory) if name.startswith("exec-")]


def exiting(pid: int) -> bool:
    """PF_EXITING of linux/sched.h, in the flags of proc_pid_stat(5)."""
    return bool(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[6]) & 4)


@contextmanager
def no_strangers() -> Iterator[None]:
    """Whatever happens inside, the processes below us are the same afterwards."""
    leaks.reap()
    before = set(host.descendants())
    yield
    leaks.reap()
    assert set(host.descendants()) <= before


# --- init dies

def test_init_dies_just_before_its_namespaces_are_looked_at(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """V02's neighbour: a dead process has no namespaces to join, and in those of the host nothing may ever be run."""
    container = box.parked(fresh_spec())
    look = facts.own_namespaces_mask

    def deadly(pid: int, pidfd: int) -> tuple[int, bool]:
        container.end()
        return look(pid, pidfd)

    monkeypatch.setattr(facts, "own_namespaces_mask", deadly)
    marker = box.dir / "marker"
    with no_strangers(), pytest.raises(InitError, match="its init has ended"):
        exec_in(container, "/bin/touch", str(marker))
    assert not marker.exists() and keys(container) == []


def test_init_dies_during_each_record(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """security 6: an error, or a process that died with its pid namespace; never one that lives outside."""
    receive = Conversation.receive
    at, total = 0, 1
    while at < total:
        container = box.parked(fresh_spec())
        seen: list[int] = []

        def deadly(self: Conversation, at: int = at, seen: list[int] = seen, container: Container = container) -> object:
            record = receive(self)
            seen.append(record.kind if record else -1)
            if len(seen) == at + 1:
                os.kill(container.pid, signal.SIGKILL)
                # Not for its end: that waits until we reap the process that is just being made in its namespace.
                host.eventually(lambda: exiting(container.pid))
            return record

        with monkeypatch.context() as patch:
            patch.setattr(Conversation, "receive", deadly)
            try:
                process = exec_in(container, "/bin/sleep", "1000")
            except Error as error:
                assert "killed by signal 9" in str(error) or "stopped" in str(error), (at, seen, error)
            else:
                assert process.wait() == 128 + signal.SIGKILL
        total = max(total, len(seen))
        leaks.reap()
        assert keys(container) == [] and container.status == "stopped"
        container.delete().ok()
        at += 1
    assert total >= 3


def test_exec_in_a_container_that_has_ended(box: Box) -> None:
    """lifecycle 94."""
    container = box.parked(fresh_spec())
    container.end()
    with pytest.raises(StateError, match="cannot exec in a stopped container"):
        exec_in(container, "/bin/true")


def test_a_program_that_uses_the_library_keeps_no_descriptors(box: Box) -> None:
    """P17: a life of a container and its execs ends with the descriptors that there were before."""
    spec = fresh_spec("probe", "park")
    bundle = box.bundle(spec)
    null = os.open("/dev/null", os.O_RDWR)
    stdio = (null, null, null)
    store = open_store(str(box.runtime.root))
    fds = sorted(os.listdir("/proc/self/fd"))
    core = Core.create(store, box.new_id(), bundle=str(bundle), stdio=stdio)
    core.start()
    process = core.exec({"args": ["sh", "-c", "exit 4"], "cwd": "/"}, stdio=stdio)
    assert (process.wait(), process.wait()) == (4, 4)
    process.send_signal(signal.SIGTERM)  # ended, which is no error
    detached = core.exec({"args": ["sleep", "1000"], "cwd": "/"}, stdio=stdio, detach=True)
    core.kill(signal.SIGKILL)
    assert detached.wait() == 128 + signal.SIGKILL  # before init's, whose end waits for it to be reaped
    assert core.wait() == 128 + signal.SIGKILL
    core.delete()
    core.close()
    assert sorted(os.listdir("/proc/self/fd")) == fds
    os.close(null)


# --- the plan fails

def test_each_operation_failing(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """security 6: the error names the step; the container runs on, and nothing of the exec is left."""
    container = box.parked(fresh_spec())
    plans: list[Plan] = []
    index = -1
    encode = launch.encode

    def broken(plan: Plan) -> bytes:
        plans.append(plan)
        if index >= 0:
            replace(plan, index, _NO_CALL)
        return encode(plan)

    monkeypatch.setattr(launch, "encode", broken)
    monkeypatch.setitem(abi.SYSCALLS, _NO_CALL, (4000, 4000))
    good = exec_in(container, "/bin/true")
    good.wait()
    fds = sorted(os.listdir("/proc/self/fd"))
    labels = [(op.label, op.process) for op in plans[0].ops]
    for index, (label, process) in enumerate(labels):
        if not EVERY and index and labels[index - 1] == (label, process):
            continue
        with no_strangers():
            try:
                done = exec_in(container, "/bin/true")
            except InitError as error:
                assert error.errno == errno.ENOSYS, (index, error)
                assert error.step == label.text, (index, error)
            else:  # passed over: a jump leads around it
                done.wait()
        assert sorted(os.listdir("/proc/self/fd")) == fds, (index, label.text)
        assert keys(container) == [], (index, label.text)
    assert container.status == "running"


def test_program_that_execve_refuses(box: Box) -> None:
    """lifecycle 66: what only execve can know; the first error is the one that is told."""
    where = box.bundle(fresh_spec("probe", "park"))
    script = where / "rootfs/bin/script"
    script.write_text("#!/no/interpreter\n")
    script.chmod(0o755)
    container = box.create(None, bundle=where)
    result = container.exec("/bin/script")
    assert result.code == 255 and "no such file or directory" in result.message, result
    assert keys(container) == []


# --- keys and leftovers

def test_key_of_a_foreground_exec(box: Box) -> None:
    """lifecycle 15: before success is reported; cleared by its writer when the exec ended."""
    container = box.parked(fresh_spec())
    reading, writing = os.pipe()
    running = box.runtime.spawn("exec", container.id, "cat", stdin=reading)
    os.close(reading)
    host.eventually(lambda: len(keys(container)) == 1)
    os.close(writing)
    running.finish().ok()
    assert keys(container) == []


def test_key_of_a_detached_exec(box: Box) -> None:
    """lifecycle 15: its writer is gone, so delete clears it, with the id."""
    container = box.parked(fresh_spec())
    pid_file = box.dir / "exec.pid"
    container.exec("sleep", "1000", flags=("--detach", "--pid-file", pid_file)).ok()
    pid = int(pid_file.read_text())
    assert keys(container) == [f"exec-{pid}"]
    box.runtime.spawn("delete", "--force", container.id).finish_reaping().ok()
    host.wait_exit(pid)


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGSTOP])
def test_exec_verb_killed_while_its_process_runs(box: Box, signal_: int) -> None:
    """security 6: the process stays the container's, and goes with it."""
    container = box.parked(fresh_spec())
    running = box.runtime.spawn("exec", container.id, "sleep", "1000")
    host.eventually(lambda: len(keys(container)) == 1)
    os.kill(running.pid, signal_)
    pid = int(keys(container)[0].removeprefix("exec-"))
    box.runtime.spawn("delete", "--force", container.id).finish().ok()
    host.wait_exit(pid)
    if signal_ == signal.SIGSTOP:
        os.kill(running.pid, signal.SIGCONT)
    running.finish()


@pytest.mark.parametrize("shared", [True, False], ids=["another's pid namespace", "host's pid namespace"])
def test_exec_outlives_init(box: Box, shared: bool) -> None:
    """security 6: its pid namespace lives on, so it does too, until delete; exec itself is refused by then."""
    spec = shell("read x")
    if shared:
        sandbox = box.parked(fresh_spec())
        namespace(spec, "pid", f"/proc/{sandbox.pid}/ns/pid")
    else:
        drop_namespace(spec, "pid")
    reading, writing = os.pipe()
    container = box.start(spec, stdin=reading)
    os.close(reading)
    pid_file = box.dir / "exec.pid"
    container.exec("sh", "-c", "sleep 1000 & wait", flags=("--detach", "--pid-file", pid_file)).ok()
    pid = int(pid_file.read_text())
    os.close(writing)
    container.wait()
    assert Path(f"/proc/{pid}/comm").read_text() == "sh\n"
    container.exec("true").failed(255).says("cannot exec in a stopped container")
    box.runtime.spawn("delete", container.id).finish_reaping().ok()
    host.wait_exit(pid)


# --- cgroup v2

@in_pure_v2
def test_exec_beside_init_where_the_top_takes_no_process(box: Box) -> None:
    """decisions 2: EBUSY, as the container has enabled controllers itself: init's current cgroup below the container's."""
    top = Path("/sys/fs/cgroup")
    with HugetlbAsBefore(top):
        spec = fresh_spec("probe", "park")
        spec["linux"]["cgroupsPath"] = box.cgroup_path()
        spec["linux"]["resources"]["hugepageLimits"] = [{"pageSize": "2MB", "limit": 2 << 20}]
        container = box.parked(spec)
        cgroup = top / spec["linux"]["cgroupsPath"][1:]
        inner = cgroup / "inner"
        inner.mkdir()
        (inner / "cgroup.procs").write_text(str(container.pid))
        (cgroup / "cgroup.subtree_control").write_text("+hugetlb")
        assert container.exec("true").ok().out == ""
        pid_file = box.dir / "exec.pid"
        container.exec("sleep", "1000", flags=("--detach", "--pid-file", pid_file)).ok()
        assert pid_file.read_text() in (inner / "cgroup.procs").read_text().split()
        box.runtime.spawn("delete", "--force", container.id).finish_reaping().ok()
        assert not cgroup.exists()
