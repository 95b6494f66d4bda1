"""create and delete of the core, with an engine that only writes down what it is asked for."""

import os

import pytest

from skerry import container as core
from skerry.errors import AlreadyExists, EngineError, Error, NotFound, ReleaseError
from skerry.linux.process import start_time
from skerry.native.engine import NativeEngine
from skerry.state.journal import Journal
from skerry.state.store import Store

SPEC = {
    "ociVersion": "1.0.2",
    "process": {"args": ["true"], "cwd": "/"},
    "root": {"path": "rootfs"},
    "linux": {"namespaces": [{"type": "mount"}]},
}


class Dialogue:
    """An init that is ready: it is this process, so that it lives."""

    def __init__(self, calls):
        self.calls = calls
        self.pid, self.start_time = os.getpid(), start_time(os.getpid())
        self.pidfd, self.console_fd = -1, -1

    def abort(self):
        self.calls.append("kill init")


class Creation:
    def __init__(self, calls):
        self.dialogue = Dialogue(calls)
        self.facts = {"ops": 0}
        self.calls = calls

    def finish(self):
        self.calls.append("finish")


class Engine:
    """`calls` is what was asked, in order; `failure` is raised by create, `stuck` by release."""

    calls: list
    failure: Error | None
    stuck: Error | None

    def __init__(self, store, id, log):
        self.store, self.id = store, id

    def refuse(self, options, *, pidfd_socket):
        pass

    def keep_network(self, record, pid, pidfd):
        return ""

    def create(self, spec, record, options):
        self.calls.append("create")
        Journal(self.store, self.id, []).add({"kind": "cgroup"})
        if self.failure:
            raise self.failure
        return Creation(self.calls)

    def release(self):
        self.calls.append("release")
        if self.stuck:
            raise self.stuck
        return True

    def release_own(self):
        self.calls.append("release own")


class Log:
    def __init__(self):
        self.warnings = []

    def warning(self, text):
        self.warnings.append(text)

    def debug(self, text):
        pass


@pytest.fixture
def engine(monkeypatch):
    engine = type("ThisEngine", (Engine,), {"calls": [], "failure": None, "stuck": None})
    monkeypatch.setattr(core, "engine_class", lambda isolation: engine)
    return engine


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "root"))


def create(store, tmp_path, log=None, **options):
    (tmp_path / "rootfs").mkdir(exist_ok=True)
    return core.Container.create(store, "a", bundle=str(tmp_path), spec=SPEC, log=log or Log(), **options)


def test_order_of_a_create(engine, store, tmp_path, monkeypatch):
    """lifecycle 16, 42, 46: the record first, then what is made, then who runs; the pid file before the last word."""
    pid_file = tmp_path / "pid"
    engine.calls = calls = []
    real = {name: getattr(Store, name) for name in ("create_many", "set")}
    monkeypatch.setattr(Store, "create_many", lambda self, id, keys: (calls.append("state"), real["create_many"](self, id, keys))[1])
    monkeypatch.setattr(Store, "set", lambda self, id, key, value: (calls.append(key), real["set"](self, id, key, value))[1])
    monkeypatch.setattr(Creation, "finish", lambda self: calls.append(f"finish, pid file {pid_file.exists()}"))
    create(store, tmp_path, pid_file=str(pid_file))
    assert calls == ["state", "create", "resources", "shim", "pid", "finish, pid file True"]


def test_socket_for_readiness(engine, store, tmp_path):
    """lifecycle 46, 131: the spec on record is that of what runs, and what it mounts is there before the engine looks."""
    create(store, tmp_path, notify=True)
    spec = store.get("a", "spec")
    assert spec["process"]["env"] == ["NOTIFY_SOCKET=/run/notify/notify.sock"]
    assert os.stat(spec["mounts"][-1]["source"]).st_mode & 0o7777 == 0o755
    assert engine.calls[0] == "create"
    store.remove("a")
    engine.failure = EngineError("no")
    with pytest.raises(EngineError, match="no"):
        create(store, tmp_path, notify=True)
    assert store.ids() == []


def test_second_create_of_an_id(engine, store, tmp_path):
    """lifecycle 4: the engine is not asked."""
    create(store, tmp_path)
    engine.calls.clear()
    with pytest.raises(AlreadyExists, match="container a already exists"):
        create(store, tmp_path)
    assert engine.calls == []
    assert store.get("a", "pid")


def test_second_create_on_an_object(store, monkeypatch):
    """lifecycle 48."""

    class Made:
        journal = ()

        def __init__(self, *arguments):
            pass

        def run(self):
            pass

    monkeypatch.setattr("skerry.native.create.Creation", Made)
    engine = NativeEngine(store, "a", Log())
    engine.create({}, {}, None)
    with pytest.raises(EngineError, match="^container already created$"):
        engine.create({}, {}, None)


def test_engine_that_fails(engine, store, tmp_path):
    """lifecycle 48, 49, 53: released, then forgotten; the id is free at once."""
    engine.failure = EngineError("cannot make it")
    with pytest.raises(EngineError, match="cannot make it"):
        create(store, tmp_path)
    assert engine.calls == ["create", "release"]
    assert store.ids() == []
    engine.failure = None
    create(store, tmp_path)


def test_error_of_the_clean_up_is_logged(engine, store, tmp_path):
    """lifecycle 49, 51: the first error is the one reported; what could not be released stays for delete."""
    engine.failure, engine.stuck = EngineError("the first"), ReleaseError(["the second"])
    log = Log()
    with pytest.raises(EngineError, match="^the first$"):
        create(store, tmp_path, log)
    assert len(log.warnings) == 1 and "the second" in log.warnings[0]
    assert store.ids() == ["a"]
    assert store.get("a", "resources") == [{"kind": "cgroup"}]


def test_pid_file_that_cannot_be_written(engine, store, tmp_path):
    """lifecycle 51, 52: init is killed before anything is released."""
    with pytest.raises(Error, match="pid file"):
        create(store, tmp_path, pid_file=str(tmp_path / "no/pid"))
    assert engine.calls == ["create", "kill init", "release"]
    assert store.ids() == []


def test_refusal_before_the_record(engine, store, tmp_path):
    """lifecycle 32, 54: nothing is asked of the engine, nothing is written."""
    with pytest.raises(NotFound):
        create(store, tmp_path, network_from="nobody")
    assert engine.calls == []
    assert store.ids() == []


def test_record_of_a_create(engine, store, tmp_path):
    """lifecycle 31, 43: facts, and who made it, in case it dies."""
    create(store, tmp_path, owner="me")
    record = store.get("a", "state")
    assert record["Creator"] == {"pid": os.getpid(), "start": start_time(os.getpid())}
    assert (record["ID"], record["Owner"], record["SandboxID"], record["HostID"]) == ("a", "me", "", "")
    assert (record["IsHost"], record["HostUniqueID"], record["Isolation"]) == (False, "", "process")
    assert record["Bundle"] == str(tmp_path)
    assert record["Rootfs"] == str(tmp_path / "rootfs")
    assert len(record["UniqueID"]) == 32


@pytest.mark.parametrize("uid", [0, 54321])
def test_owner(uid):
    """lifecycle 136, 150."""
    from skerry.creation import user_name

    assert user_name(uid) == ("root" if uid == 0 else "#54321")
