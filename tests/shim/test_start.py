"""The binary: start, delete, -info, -v; sockets; the zygote."""

import concurrent.futures
import json
import os
import resource
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest
from support import host
from support.containerd import Client
from support.protos import CLASSES

from skerry.shims.task import messages, protobuf

PLANTED = "json ctypes struct socket select posix os errno fcntl sitecustomize site skerry _json _socket gc resource time"


def test_only_the_address_with_debug_and_plants(box):
    """P03: modules in the bundle, the working directory of every action, never run; what is on stdout is the address."""
    id = box.bundle("true")
    mark = box.top / "mark"
    for name in PLANTED.split():
        (box.path(id) / f"{name}.py").write_text(f"open({str(mark)!r}, 'w')\n")
    client = box.start(id, debug=True)
    client.call("Create", id=id, bundle=str(box.path(id)))
    client.call("Start", id=id)
    box.end(client, id)
    box.containerd.delete(id)
    assert not mark.exists()


def test_the_second_start_answers_the_first_ones_address(box):
    client, id = box.running("sleep", "100")
    shim = box.shim(client)
    again = box.start(id)
    assert box.shim(again) == shim and len(box.shims()) == 1
    box.end(client, id)


def test_starts_at_once_make_one_shim(box):
    """Of all members of a pod at the same time, over a dead socket."""
    group = {"io.containerd.runc.v2.group": "g"}
    ids = [box.bundle("true", annotations=group) for _ in range(8)]
    first = box.start(ids[0])
    os.kill(box.shim(first), signal.SIGKILL)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        addresses = set(pool.map(box.containerd.start, ids))
    assert len(addresses) == 1
    clients = [box.containerd.connect(addresses.copy().pop()) for _ in ids]
    assert len({box.shim(client) for client in clients}) == 1
    host.eventually(lambda: len(box.shims()) == 1)
    clients[0].call("Shutdown", id="")


STRANGER = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(5)
s.connect(sys.argv[1])
sys.exit(len(s.recv(1)))
"""


def test_socket_is_roots_alone(box):
    """V34: a path, 0600, in a directory nobody else writes to."""
    client, id = box.running("sleep", "100")
    path = client.sock.getpeername()
    mode = os.stat(path)
    assert stat.S_IMODE(mode.st_mode) == 0o600 and mode.st_uid == 0
    assert not os.stat(Path(path).parent).st_mode & 0o077 & ~0o055
    pid = box.shim(client)
    ours = {os.readlink(f) for f in Path(f"/proc/{pid}/fd").iterdir()}
    inodes = {link[8:-1] for link in ours if link.startswith("socket:[")}
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    assert not [row for row in rows if row[6] in inodes and row[7:] and row[7].startswith("@")]
    os.chmod(path, 0o666)  # whoever gets this far is asked who he is
    directory = os.open(Path(path).parent, os.O_PATH)
    os.chmod(Path(path).parent, 0o711)
    try:
        done = subprocess.run(
            ["python3", "-c", STRANGER, f"/proc/self/fd/{directory}/{Path(path).name}"],
            user=65534, group=65534, capture_output=True, pass_fds=[directory],
        )  # fmt: skip
        assert done.returncode == 0, done.stderr  # the end of file, and no more
    finally:
        os.chmod(Path(path).parent, 0o700)
        os.close(directory)
    assert client.call("State", id=id)["status"] == 2
    box.end(client, id)


def test_the_daemon_is_alone(box):
    """It has nothing of its caller but what a container would inherit."""
    client, id = box.running("sleep", "100")
    pid = box.shim(client)
    assert os.getsid(pid) == pid and os.readlink(f"/proc/{pid}/cwd") == "/"
    links = [os.readlink(f"/proc/{pid}/fd/{n}") for n in range(3)]
    assert links == ["/dev/null"] * 3
    score = int(Path("/proc/self/oom_score_adj").read_text())
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == min(score + 1, 1000)
    status = host.status_of(pid)
    assert status["Threads"] == "1" and "python" in os.readlink(f"/proc/{pid}/exe")
    box.end(client, id)
    host.eventually(lambda: not box.shims())


def test_members_get_the_callers_score_and_limits(box):
    client, id = box.created("sleep", "100", process={"rlimits": []})
    pid = client.call("State", id=id)["pid"]
    assert Path(f"/proc/{pid}/limits").read_text() == Path("/proc/self/limits").read_text()
    box.end(client, id)


def test_bad_words_and_input(box):
    id = box.bundle("true")
    shim, where = box.containerd.shim, box.path(id)
    for words in (["-nonsense", "start"], ["start"], ["-namespace", "x", "-id", id, "dance"], []):
        done = subprocess.run([shim, *words], cwd=where, capture_output=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 1 and not done.stdout
        assert done.stderr.count(b"\n") == 1 and b"Traceback" not in done.stderr
    (where / "config.json").write_text("{")
    done = box.containerd.run_start(id)
    assert done.returncode == 1 and done.stdout.count(b"\n") == 1 and b"config.json" in done.stdout
    (where / "config.json").write_text("{}")
    done = box.containerd.run_start(id, options=b"\xff\xff")
    assert done.returncode == 1 and done.stdout.count(b"\n") == 1
    assert not box.shims()


@pytest.mark.parametrize("version", ["2.3"])
def test_bootstrap_with_a_socket_directory(box, version):
    id = box.bundle("true")
    directory = box.top / "s"
    params = CLASSES["BootstrapParams"].FromString(box.containerd.stdin(id))
    params.socket_dir = str(directory)
    box.containerd.stdin = lambda *_: params.SerializeToString()
    client = box.start(id)
    assert Path(client.sock.getpeername()).parent == directory
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    client.call("Shutdown", id=id)


def test_info(box):
    options = CLASSES["Any"](type_url="x", value=b"y").SerializeToString()
    for stdin in (b"", options):
        done = subprocess.run([box.containerd.shim, "-info"], input=stdin, capture_output=True, check=True)
        read = CLASSES["RuntimeInfo"].FromString(done.stdout)
        assert read.name == "io.containerd.skerry.v2" and read.version.version
        assert read.options.SerializeToString() == stdin
        features = json.loads(read.features.value)
        assert features["ociVersionMax"] == "1.3.0" and "mountExtensions" in features["linux"]
        assert read.features.type_url.endswith("/features/Features")
    done = subprocess.run([box.containerd.shim, "-v"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("containerd-shim-skerry-v2:\n")


def test_delete_without_anything(box):
    id = box.bundle("true")
    for _ in range(2):
        assert box.containerd.delete(id)["exit_status"] == 137
    (box.path(id) / "config.json").unlink()
    box.containerd.delete(id)


def test_root_from_the_options(box):
    """It is written beside the bundle for delete, which is told nothing else; the command line lists the container."""
    root = box.top / "root"
    value = CLASSES["RuncOptions"](root=str(root)).SerializeToString()
    options = {"type_url": "containerd.runc.v1.Options", "value": value}
    id = box.bundle("sleep", "100")
    client = box.start(id, options=protobuf.encode(messages.ANY, options))
    client.call("Create", id=id, bundle=str(box.path(id)), options=options)
    listed = subprocess.run(
        [box.containerd.shim.parent / "skerry", "--root", root / box.token, "list", "-q"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert listed.stdout == f"{id}\n"
    os.kill(box.shim(client), signal.SIGKILL)
    box.containerd.delete(id)
    assert not list((root / box.token).glob("[!@]*"))


def test_a_shim_that_nobody_needs_ends(box, monkeypatch):
    """Ended containers are kept until they are deleted; then the order to end is obeyed and the socket goes."""
    client, id = box.running("true")
    client.call("Wait", id=id)
    client.call("Shutdown", id=id)
    assert client.call("State", id=id)["status"] == 3
    pid = box.shim(client)
    os.kill(pid, signal.SIGTERM)
    assert client.call("State", id=id)["status"] == 3
    client.call("Delete", id=id)
    os.kill(pid, signal.SIGTERM)
    host.wait_exit(pid, 5)
    assert not Path(client.sock.getpeername()).exists()


def zygote(box) -> int:
    """A pod that lives long enough begins one."""
    host.eventually(lambda: box.zygote_socket().exists() and box.zygotes(), 10)
    (pid,) = box.zygotes()
    host.eventually(lambda: answers(box.zygote_socket()), 5)
    return pid


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        return sock.connect_ex(str(path)) == 0


def parent(pid: int) -> int:
    return int(host.status_of(pid)["PPid"].split()[0])


def test_later_pods_come_from_the_zygote(box):
    first, first_id = box.running("sleep", "100")
    pid = zygote(box)
    second, second_id = box.running("sleep", "100")
    shim = box.shim(second)
    assert parent(shim) == pid and parent(box.shim(first)) != pid
    assert Path(f"/proc/{shim}/comm").read_text() == f"shim:{second_id}"[:15] + "\n"
    environment = {key: value for key, value in (box.containerd.environment()).items()}
    assert environment["TTRPC_ADDRESS"] == f"{box.containerd.grpc}.ttrpc"
    box.exec(second, second_id, "sh", "-c", "sleep 0.1 & exit 5")
    assert second.call("Wait", id=second_id, exec_id="e")["exit_status"] == 5
    os.kill(pid, signal.SIGKILL)  # nothing depends on it
    box.events.wait("/tasks/start", container_id=second_id)
    third, third_id = box.running("sleep", "100")
    for client, id in ((first, first_id), (second, second_id), (third, third_id)):
        assert client.call("State", id=id)["status"] == 2
        box.end(client, id)


def test_the_zygote_serves_its_like_alone(box):
    """What a container inherits is its caller's: a caller that is not like the zygote gets an interpreter of its own."""
    first, first_id = box.running("sleep", "100")
    pid = zygote(box)
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (old[0] - 1, old[1]))
    try:
        second, second_id = box.running("sleep", "100", process={"rlimits": []})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
    assert parent(box.shim(second)) != pid
    init = second.call("State", id=second_id)["pid"]
    limits = Path(f"/proc/{init}/limits").read_text()
    assert f"Max open files            {old[0] - 1} " in limits
    third, third_id = box.running("sleep", "100")
    assert parent(box.shim(third)) == pid
    for client, id in ((first, first_id), (second, second_id), (third, third_id)):
        box.end(client, id)


def test_a_zygote_that_hangs_costs_one_wait(box):
    first, first_id = box.running("sleep", "100")
    pid = zygote(box)
    os.kill(pid, signal.SIGSTOP)
    try:
        second, second_id = box.running("true")
        assert parent(box.shim(second)) != pid
        second.call("Wait", id=second_id)
        box.end(second, second_id)
    finally:
        os.kill(pid, signal.SIGCONT)
    box.end(first, first_id)
    host.eventually(lambda: len(box.shims()) <= 1, 5)
    for late in box.shims():  # forked when it was late: nobody can reach it, and it ends by itself after a while
        os.kill(late, signal.SIGTERM)
    assert isinstance(first, Client)
