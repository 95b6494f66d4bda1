"""NOTIFY_SOCKET: the program says by sd_notify(3) that it is ready, and the caller's service manager hears it."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import host
from support.box import Box
from support.spec import add_mount, shell, user_namespace

# The manager of the test looks at the file to let the program go on.
UNTIL_GO = "echo up; until [ -e /go ]; do sleep 0.02; done;"


class Manager:
    """A service manager's socket, and what arrived there."""

    def __init__(self, address: str) -> None:
        self.env = {"NOTIFY_SOCKET": address}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self._socket.setblocking(False)

    def messages(self) -> list[bytes]:
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096))
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, box: Box) -> Iterator[Manager]:
    manager = Manager(f"@{box.token}-{box.new_id()}" if request.param == "abstract" else str(box.dir / "manager"))
    yield manager
    manager.close()


def ready(pid: int) -> list[bytes]:
    """What runc 1.1.5 was seen to send."""
    return [b"READY=1\n", b"MAINPID=%d\n" % pid]


def test_start_waits_and_tells(box: Box, manager: Manager) -> None:
    """lifecycle 131."""
    spec = shell(f"probe notify STATUS=loading; {UNTIL_GO} probe notify READY=1; probe park")
    container = box.create(spec, env=manager.env)
    assert manager.messages() == []
    starting = box.runtime.spawn("start", container.id, env=manager.env)
    container.stream.until("up")
    assert manager.messages() == []
    assert starting.process.poll() is None
    (container.rootfs / "go").touch()
    starting.finish().ok()
    assert manager.messages() == ready(container.pid)
    assert container.status == "running"


def test_detached_run(box: Box, manager: Manager) -> None:
    """lifecycle 131: with more lines than that in the message, which stay behind."""
    spec = shell("probe notify READY=1~MAINPID=1~STATUS=hello; probe park")
    container = box.create(spec, "--detach", verb="run", env=manager.env)
    assert manager.messages() == ready(container.pid)
    assert container.status == "running"


def test_foreground_run(box: Box, manager: Manager) -> None:
    """lifecycle 131: the main process is the runtime, whose end says how the program has ended."""
    running = box.spawn_run(shell("probe notify READY=1; exit 7"), env=manager.env)
    running.finish().failed(7)
    assert manager.messages() == ready(running.pid)


def test_foreground_passes_signals_on_while_it_waits(box: Box, manager: Manager) -> None:
    """lifecycle 92, 131."""
    where = box.bundle(shell("trap 'probe notify READY=1; exit 7' USR1; touch /up; while :; do sleep 0.02; done"))
    (where / "config.json").write_text((where / "config.json").read_text().replace('"readonly": true', '"readonly": false'))
    running = box.spawn_run(None, bundle=where, env=manager.env)
    host.eventually((where / "rootfs" / "up").exists, 10)
    running.signal(10)
    running.finish().failed(7)
    assert manager.messages() == ready(running.pid)


@pytest.mark.parametrize("verb", ["start", "run --detach", "run"])
def test_end_without_ready_ends_the_wait(box: Box, manager: Manager, verb: str) -> None:
    """lifecycle 131."""
    spec = shell("probe notify STATUS=1")
    if verb == "start":
        box.create(spec, env=manager.env).verb("start", env=manager.env).ok()
    elif verb == "run":
        box.run(spec, env=manager.env).ok()
    else:
        box.create(spec, "--detach", verb="run", env=manager.env)
    assert manager.messages() == []


def test_what_the_program_sees(box: Box, manager: Manager) -> None:
    """lifecycle 131, V32: a mount of its own, read-only, and the last word on the variable."""
    spec = shell(
        "echo $NOTIFY_SOCKET; ls /run/notify; touch /run/notify/x || echo refused;"
        "grep ' /run/notify ' /proc/self/mountinfo; probe notify READY=1"
    )
    spec["process"]["env"].append("NOTIFY_SOCKET=/nowhere")
    spec["root"]["readonly"] = False
    result = box.run(spec, env=manager.env).ok()
    assert result.lines[:3] == ["/run/notify/notify.sock", "notify.sock", "refused"]
    fields = result.lines[3].split()
    assert set("ro nosuid nodev noexec".split()) <= set(fields[5].split(","))
    assert fields[6] in ("-", "master:" + fields[6].partition(":")[2])
    assert result.lines[4] == "sent"


@pytest.mark.parametrize("kind", ["user", "namespace"])
def test_program_that_is_not_root(box: Box, manager: Manager, kind: str) -> None:
    """lifecycle 131."""
    spec = shell("probe notify READY=1")
    spec["process"]["user"] = {"uid": 1000, "gid": 1000}
    if kind == "namespace":
        user_namespace(spec)
        add_mount(spec, "/run", "tmpfs")
    running = box.spawn_run(spec, env=manager.env)
    assert running.finish().ok().out == "sent\n"
    assert manager.messages() == ready(running.pid)


def test_below_a_mount_of_the_spec(box: Box, manager: Manager) -> None:
    """lifecycle 131: /run is a tmpfs more often than not."""
    spec = shell("probe notify READY=1")
    add_mount(spec, "/run", "tmpfs")
    assert box.run(spec, env=manager.env).ok().out == "sent\n"


def test_nothing_of_it_without_the_variable(box: Box) -> None:
    """lifecycle 131."""
    result = box.run(shell("echo ${NOTIFY_SOCKET-none}; ls -d /run/notify || echo none")).ok()
    assert result.lines == ["none", "none"]


@pytest.mark.skerry_only("a manager that cannot be told is no reason to fail, nor one to wait")
@pytest.mark.parametrize("address", ["gone", "relative", "long"])
def test_caller_that_cannot_be_told(box: Box, address: str) -> None:
    where = {"gone": str(box.dir / "nobody"), "relative": "manager", "long": f"/{'x' * 200}"}[address]
    env = {"NOTIFY_SOCKET": where}
    container = box.create(shell("probe notify READY=1; probe park"), env=env)
    result = container.verb("start", env=env).ok()
    assert f"NOTIFY_SOCKET {where}" in result.err
    assert len(result.err.splitlines()) == 1, result
    assert "ENOENT" in container.stream.until("ENOENT")


@pytest.mark.skerry_only("runc 1.1 fails to start a container that was created without the variable")
def test_only_start_has_the_variable(box: Box, manager: Manager) -> None:
    container = box.create(shell("probe notify READY=1; probe park"))
    assert container.verb("start", env=manager.env).ok().err == ""
    assert "no NOTIFY_SOCKET" in container.stream.until("no NOTIFY_SOCKET")


@pytest.mark.skerry_only("runc starts nothing after a start that was killed")
def test_start_after_one_that_was_killed(box: Box, manager: Manager) -> None:
    """lifecycle 131: it has left its socket behind."""
    container = box.create(shell(f"{UNTIL_GO} probe notify READY=1"), env=manager.env)
    notify = Path(box.runtime.root) / container.id / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left:
        left.bind(str(notify / "notify.sock"))
    (container.rootfs / "go").touch()
    container.verb("start", env=manager.env).ok()
    assert manager.messages() == ready(container.pid)
    assert list(notify.iterdir()) == []


@pytest.mark.skerry_only("runc asks for the file of the socket first")
def test_second_start(box: Box, manager: Manager) -> None:
    """lifecycle 90: while the first one waits, and after it."""
    container = box.create(shell(f"{UNTIL_GO} probe notify READY=1; probe park"), env=manager.env)
    first = box.runtime.spawn("start", container.id, env=manager.env)
    container.stream.until("up")
    container.verb("start", env=manager.env).failed().says("cannot start an already running container")
    (container.rootfs / "go").touch()
    first.finish().ok()
    container.verb("start", env=manager.env).failed().says("cannot start an already running container")
    assert manager.messages() == ready(container.pid)
