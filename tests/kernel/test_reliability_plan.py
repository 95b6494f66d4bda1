"""A plan that fails, at each of its operations and at each word of the conversation: a plain error, and nothing left.

The operation under test is put out of order by giving it a system call that no kernel has, so the expected error is the
kernel's ENOSYS at that very operation, whatever it was for.
"""

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import host, leaks
from support.box import Box
from support.plans import replace
from support.spec import add_mount, fresh_spec, namespace, user_namespace

from skerry.container import Container, open_store
from skerry.errors import Error, HookError, InitError, StateError
from skerry.linux import abi
from skerry.native import launch
from skerry.native.conversation import Conversation
from skerry.plan import ops
from skerry.plan.build import Plan
from skerry.state import status as words

EVERY = os.environ.get("SKERRY_ROUNDS") == "all"
_NO_CALL = "none"
_HOOK = {"path": "/bin/true"}


def rich(box: Box) -> dict:
    """A spec with a step of nearly every kind."""
    spec = fresh_spec("/bin/sh", "-c", "exec sleep 1000")
    (box.dir / "volume").mkdir(exist_ok=True)
    add_mount(spec, "/vol", "bind", box.dir / "volume", "rbind", "ro")
    add_mount(spec, "/tmp", "tmpfs", "tmpfs", "nosuid")
    namespace(spec, "cgroup")
    spec["process"].update({"oomScoreAdj": 500, "user": {"uid": 1000, "gid": 1000, "additionalGids": [5]}})
    spec["process"]["apparmorProfile"] = ""
    spec["linux"]["devices"] = [{"path": "/dev/extra", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600}]
    spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}
    spec["hooks"] = {"createContainer": [_HOOK]}
    # With a program that only the container has: after a failed startContainer hook start must say so.
    spec["hooks"]["startContainer"] = [_HOOK]
    return spec


def in_user_namespace(box: Box) -> dict:
    spec = rich(box)
    user_namespace(spec)
    namespace(spec, "time")
    spec["linux"]["timeOffsets"] = {"monotonic": {"secs": 100}}
    spec["linux"].pop("devices")
    return spec


SPECS = {"rich": rich, "user and time namespace": in_user_namespace}


@contextmanager
def breaking(monkeypatch: pytest.MonkeyPatch, index: int) -> Iterator[list[Plan]]:
    """Every plan that is launched has its operation `index` out of order."""
    plans: list[Plan] = []
    encode = launch.encode

    def broken(plan: Plan) -> bytes:
        plans.append(plan)
        if index >= 0:
            replace(plan, index, _NO_CALL)
        return encode(plan)

    with monkeypatch.context() as patch:
        patch.setattr(launch, "encode", broken)
        patch.setitem(abi.SYSCALLS, _NO_CALL, (4000, 4000))
        yield plans


def create(box: Box, bundle: Path) -> Container:
    null = os.open("/dev/null", os.O_RDWR)
    try:
        store = open_store(str(box.runtime.root))
        return Container.create(store, box.new_id(), bundle=str(bundle), stdio=(null, null, null))
    finally:
        os.close(null)


def delete(box: Box, container: Container) -> None:
    container.delete(force=True)
    leaks.reap()
    for fd in (container._pidfd, container.console_fd):
        if fd >= 0:
            os.close(fd)


def interesting(plan: Plan) -> list[int]:
    """The operations to break: the first of each step and process, or all."""
    seen = set()
    found = []
    for index, op in enumerate(plan.ops):
        step = (op.label.text, op.process)
        if EVERY or step not in seen:
            found.append(index)
        seen.add(step)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPECS)
def test_each_operation_failing(box: Box, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """security 6: fails closed, 0 leaks; the error names the step and the kernel's verdict, and comes from create or start."""
    bundle = box.bundle(SPECS[kind](box))
    with breaking(monkeypatch, -1) as plans:
        delete(box, create(box, bundle))
    fds = sorted(os.listdir("/proc/self/fd"))
    (good,) = plans
    assert len(good.ops) > 100
    late = next(index for index, op in enumerate(good.ops) if op.name == "GATE")
    ready = next(index for index, op in enumerate(good.ops) if op.name == "SEND" and op.args[0] == ops.READY)
    for index in interesting(good):
        with breaking(monkeypatch, index):
            error = _failure(box, bundle, at_start=index > ready)
        label = good.ops[index].label
        where = (index, good.ops[index].name, label.text, str(error))
        assert leaks.settle(box.leftovers) == [], where
        assert sorted(os.listdir("/proc/self/fd")) == fds, where
        if isinstance(error, StateError) and ready < index <= late:
            continue  # nobody listens between the last word of create and the gate: it is a container that has stopped
        if index == late or error is None:
            assert good.ops[index].name in ("GATE", "CLOSE", "SYSCALL", "GOTO", "RECV"), where
            continue
        if good.ops[index].name == "HOOK":
            assert isinstance(error, HookError | InitError) and "ENOSYS" in str(error), where
            continue
        assert isinstance(error, InitError) and error.errno == errno.ENOSYS, where
        assert error.step == label.text and error.pointer == label.pointer, where
        assert good.process_name(good.ops[index].process) in str(error) or index > late, where
        assert str(error).isprintable() and len(str(error)) <= 500, where


def _failure(box: Box, bundle: Path, *, at_start: bool) -> "Error | None":
    """The error of create or of start; after that the container is gone, or stopped and deleted."""
    try:
        container = create(box, bundle)
    except Error as error:
        assert not at_start, error
        assert not (box.runtime.root / box.ids[-1]).exists()
        return error
    try:
        container.start()
    except Error as error:
        host.wait_exit(container.engine.pid())
        assert container.status() == words.STOPPED
        return error
    finally:
        delete(box, container)
    return None


@contextmanager
def killing_init(monkeypatch: pytest.MonkeyPatch, at: int) -> Iterator[list[int]]:
    """At the record with this number every process of the plan is killed before it is answered; gives their kinds."""
    kinds: list[int] = []
    receive = Conversation.receive

    def deadly(self: Conversation) -> object:
        record = receive(self)
        if record is not None:
            kinds.append(record.kind)
            if len(kinds) == at + 1:
                for pid in host.descendants():
                    os.kill(pid, signal.SIGKILL)
                    host.wait_exit(pid)
        return record

    with monkeypatch.context() as patch:
        patch.setattr(Conversation, "receive", deadly)
        yield kinds


@pytest.mark.parametrize("kind", SPECS)
def test_init_killed_at_each_record(box: Box, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """security 6: init dies, parent alive: a clear error, and nothing is left."""
    bundle = box.bundle(SPECS[kind](box))
    with killing_init(monkeypatch, -1) as kinds:
        delete(box, create(box, bundle))
    assert kinds.count(ops.READY) == 1 and ops.HOOKS in kinds and ops.PASSWD in kinds
    for at in range(len(kinds)):
        with killing_init(monkeypatch, at):
            try:
                container = create(box, bundle)
            except Error as error:
                assert "skerry-init ended before the program could start: killed by signal 9" in str(error) or isinstance(
                    error, HookError
                ), (at, error)
            else:
                # After READY nobody waits for its word any more: it is a container whose init has died.
                assert kinds[at] == ops.READY
                assert container.status() == words.STOPPED
                with pytest.raises(Error, match="cannot start a container that has stopped"):
                    container.start()
                delete(box, container)
        assert leaks.settle(box.leftovers) == [], at


def test_creators_end_ends_init(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """decisions 3: end of file before the last go: init exits, and its hooks with it."""
    bundle = box.bundle(rich(box))
    for kind in (ops.PID, ops.HOOKS, ops.PASSWD, ops.READY):
        child = os.fork()
        if child == 0:
            receive = Conversation.receive

            def leave(self: Conversation, kind: int = kind, receive: object = receive) -> object:
                record = receive(self)  # type: ignore[operator]
                if record.kind == kind:
                    os._exit(0)
                return record

            monkeypatch.setattr(Conversation, "receive", leave)
            create(box, bundle)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        box.new_id()  # the child's
        assert leaks.settle(lambda: [left for left in box.leftovers() if left.startswith("process")]) == []
        store = open_store(str(box.runtime.root))
        assert Container.load(store, box.ids[-1]).status() == words.STOPPED
        box.runtime.call("delete", box.ids[-1]).ok()
        assert leaks.settle(box.leftovers) == []


def test_an_abort_does_not_hide_the_error(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """lifecycle 49: the original error is reported, that of the cleanup is logged."""

    class Log:
        said: list[str] = []

        def debug(self, text: str) -> None: ...

        def warning(self, text: str) -> None:
            self.said.append(text)

    def refuse(self: object) -> None:
        raise Error("cannot release: the test says so")

    spec = fresh_spec("no-such-program")
    bundle = box.bundle(spec)
    store = open_store(str(box.runtime.root))
    id = box.new_id()
    from skerry.native.engine import NativeEngine

    with monkeypatch.context() as patch:
        patch.setattr(NativeEngine, "release", refuse)
        with pytest.raises(InitError, match="executable file not found in"):
            Container.create(store, id, bundle=str(bundle), log=Log())  # type: ignore[arg-type]
    assert Log.said == [f"cannot undo the create of container {id}: cannot release: the test says so"]
    # What could not be undone is on record, and the next delete does it (lifecycle 51).
    assert "cgroup" in (box.runtime.root / id / "resources").read_text()
    box.runtime.call("delete", id).ok()
    assert leaks.settle(box.leftovers) == []
