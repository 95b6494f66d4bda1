"""What dies, hangs or lies: every container is stopped with its reason, and nothing is left after delete."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from support import host
from support.spec import drop_namespace, fresh_spec
from support.vm_box import VmBox

STOPPED_S = 1.0


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def connect(box: VmBox, id: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    directory = os.open(box.sockets(id), os.O_PATH)
    sock.connect(f"/proc/self/fd/{directory}/vmshim")
    os.close(directory)
    sock.settimeout(60)
    return sock


def ask(box: VmBox, id: str, line: bytes) -> bytes:
    with connect(box, id) as sock:
        sock.sendall(line)
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
        return answer


def request(op: str, id: str = "x") -> bytes:
    return json.dumps({"ID": id, "Op": op}).encode() + b"\n"


@pytest.mark.parametrize(
    ("who", "reason"), [("qemu", "vm-killed"), ("vmshim", "vm-lost")]
)
def test_kill_of_the_machine_or_its_owner(box: VmBox, who: str, reason: str) -> None:
    """lifecycle 84, 86, 141, 143, 159: all of the VM's containers and execs end with 255 within a second; delete works."""
    owner = box.parked(fresh_spec())
    member = box.member(owner, fresh_spec("probe", "park"))
    member.stream.until("ready")
    running = box.runtime.spawn("exec", owner.id, "probe", "park")
    host.eventually(lambda: any(key.startswith("exec-") for key in box.keys(owner.id)), 30)
    pids = {kind: box.pid_of(owner.id, kind) for kind in ("qemu", "vmshim")}
    began = time.monotonic()
    os.kill(pids[who], signal.SIGKILL)
    codes = [owner.wait(), member.wait()]
    took = time.monotonic() - began
    assert codes == [255, 255] and took < STOPPED_S * 3, took  # the machine of the tests may be busy
    for container in (owner, member):
        assert container.status == "stopped"
        end = box.keys(container.id)["exit"]
        assert (end["code"], end["reason"]) == (255, reason)
    assert running.finish(60).code == 255
    host.eventually(lambda: not any(map(alive, pids.values())), 10)
    member.delete().ok()
    owner.delete().ok()
    assert not Path(f"{box.runtime.root}/@vm").exists() or not os.listdir(f"{box.runtime.root}/@vm")


def test_kill_of_a_shim_ends_its_container_alone(box: VmBox) -> None:
    """lifecycle 15, 70, 76: before and after start; never the VM. The reason is on record within a second."""
    owner = box.parked(fresh_spec())
    for start in (False, True):
        member = box.create(fresh_spec("probe", "park"), "--host", owner.id)
        if start:
            member.start()
            member.stream.until("ready")
        os.kill(member.pid, signal.SIGKILL)
        assert member.wait() == -signal.SIGKILL
        end = box.until_stopped(member, STOPPED_S)
        assert (end["code"], end["signal"], end["reason"]) == (137, signal.SIGKILL, "shim-lost")
        member.verb("start").failed().says("cannot start a container that has stopped")
        question = request("processes", member.id)
        host.eventually(lambda question=question: ask(box, owner.id, question)[:4] != b"\0OK\0", 20)
        member.delete().ok()
    assert owner.exec("true").ok()


def test_kill_of_the_shim_of_an_exec(box: VmBox) -> None:
    """lifecycle 15, 76: its process ends, its key goes; the container stays."""
    owner = box.parked(fresh_spec())
    box.runtime.call("exec", "-d", "--pid-file", box.dir / "pid", owner.id, "probe", "park").ok()
    pid = int((box.dir / "pid").read_text())
    inside = box.keys(owner.id)[f"exec-{pid}"]["pid"]
    os.kill(pid, signal.SIGKILL)
    host.eventually(lambda: f"exec-{pid}" not in box.keys(owner.id), STOPPED_S)
    host.eventually(lambda: inside not in json.loads(owner.verb("ps", "-f", "json").ok().out), 10)
    assert owner.status == "running" and "exit" not in box.keys(owner.id)


# Overwrite the C library of pid 1 with `hlt`: it faults at its next step.
SPOIL = """
line=$(grep 'r-xp.*libc[.-]' /proc/1/maps | head -n 1)
from=$((0x${line%%-*})); rest=${line#*-}; to=$((0x${rest%% *}))
head -c $((to - from)) /dev/zero | tr '\\0' '\\364' |
    dd of=/proc/1/mem bs=4096 seek=$((from / 4096)) conv=notrunc 2>/dev/null
probe park
"""


def spoiler() -> dict:
    """A container that may write into the memory of its guest's pid 1."""
    spec = fresh_spec("sh", "-c", SPOIL)
    drop_namespace(spec, "pid")
    for caps in spec["process"]["capabilities"].values():
        caps += ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN"]
    return spec


def test_kill_of_the_agent(box: VmBox) -> None:
    """lifecycle 86, 143: the guest's kernel panics, QEMU ends, and whoever was in the VM has that as its reason."""
    owner = box.parked(fresh_spec())
    member = box.create(spoiler(), "--host", owner.id)
    qemu = box.pid_of(owner.id, "qemu")
    box.runtime.spawn("start", member.id).finish(30)
    for container in (owner, member):
        end = box.until_stopped(container, 10)
        assert (end["code"], end["reason"]) == (255, "vm-lost")
        assert "console:" in end["message"] and "Kernel panic" in end["message"] and end["message"].isprintable()
        assert container.wait() == 255
    assert not alive(qemu)


def test_signal_before_start(box: VmBox) -> None:
    """lifecycle 65, 68, 70: a created container that is ended exits 1 without a word, and refuses start."""
    container = box.create(fresh_spec())
    container.kill("TERM")
    assert container.wait() == 1
    assert container.stream.rest() == ""
    container.verb("start").failed().says("cannot start a container that has stopped")
    container.delete().ok()


def test_create_that_is_killed(box: VmBox) -> None:
    """lifecycle 42, 48, 159: whatever it has begun, delete --force finds."""
    for delay in (0.1, 0.4, 1.0, 2.0):
        id = box.new_id()
        bundle = box.bundle(fresh_spec("probe", "park"))
        creating = box.runtime.spawn("create", "--bundle", bundle, id)
        try:
            host.wait_exit(creating.pid, delay)
        except TimeoutError:
            creating.signal(signal.SIGKILL)
        creating.finish(30)
        box.runtime.call("delete", "--force", id).ok()
        host.eventually(lambda: box.leftovers() == [] or None, 15)


def test_boot_that_fails(box: VmBox) -> None:
    """lifecycle 49, 57, 77, 143: the error is the VM's, with its last words; nothing is left."""
    spec = fresh_spec()
    kernel = box.dir / "kernel"
    kernel.write_bytes(b"no kernel")
    spec["vm"] = {"kernel": {"path": str(kernel), "initrd": str(kernel)}}
    spec["annotations"] = {"run.skerry.vm.template": "false"}
    result = box.refuses(spec)
    assert "VM" in result.message or "QEMU" in result.message


def test_helper_that_is_no_vmshim(box: VmBox) -> None:
    """lifecycle 55-59, 154 (B10): data that is none is an error, not a hang; no data end is one either."""
    for verb in ("vmshim", "shim"):
        result = box.runtime.call(verb, "nobody", stdin=b"null")
        assert result.code == 1 and "started by skerry itself" in result.out


def test_unreachable_vm(box: VmBox) -> None:
    """lifecycle 50, 85, 116: a member's create fails with these words; its delete warns and works."""
    owner = box.parked(fresh_spec())
    os.kill(box.pid_of(owner.id, "vmshim"), signal.SIGKILL)
    owner.wait()
    box.try_create(fresh_spec(), "--host", owner.id).failed().says(f"VM {owner.id} cannot be contacted")
    owner.delete().ok()


def test_guest_that_hangs(box: VmBox) -> None:
    """lifecycle 99, 144: unknown meanwhile; delete --force of a member and of the owner takes no 30 s each."""
    owner = box.parked(fresh_spec())
    member = box.member(owner, fresh_spec("probe", "park"))
    member.stream.until("ready")
    os.kill(box.pid_of(owner.id, "qemu"), signal.SIGSTOP)
    assert member.verb("state", timeout_s=30).ok().json()["status"] == "unknown"
    for container in (member, owner):
        began = time.monotonic()
        container.delete("--force").ok()
        assert time.monotonic() - began < 30 + 10


def test_clients_of_the_vmshim(box: VmBox) -> None:
    """lifecycle 78-83, 153 (B9): none takes the VM down, or keeps another waiting."""
    owner = box.parked(fresh_spec())
    silent = [connect(box, owner.id) for _ in range(20)]
    assert b"unknown operation" in ask(box, owner.id, request("format-disk", owner.id))
    assert b"Not implemented" in ask(box, owner.id, request("sync", owner.id))
    for line in (b"{\n", b"\n", b"[]\n", b'{"ID": 1, "Op": "status"}\n', b'{"ID": "x"}\n', b"\xff\xfe\n", b"null\n"):
        answer = ask(box, owner.id, line)
        assert answer and not answer.startswith(b"\0OK\0"), line
    with connect(box, owner.id) as sock:
        try:
            for _ in range(6):
                sock.sendall(b"x" * (1 << 20))
        except OSError:
            pass  # closed on us, which is an answer too
    assert b"NotFound" in ask(box, owner.id, request("status", "nobody"))
    assert b"cannot be attached" in ask(box, owner.id, request("attach", owner.id))
    assert b"already created" in ask(box, owner.id, request("create", owner.id))
    assert b"is not the owner" in ask(box, owner.id, request("shutdown", "nobody"))
    half = connect(box, owner.id)
    half.sendall(request("status", owner.id))
    half.shutdown(socket.SHUT_WR)
    assert half.recv(4096).startswith(b"\0OK\0")
    half.close()
    assert owner.exec("true").ok()
    assert owner.status == "running"
    for sock in silent:
        sock.close()


def test_foreign_clients_are_not_served(box: VmBox) -> None:
    """lifecycle 83, security V34: another user's connection ends without a byte, wherever it comes from."""
    owner = box.parked(fresh_spec())
    directory = Path(box.sockets(owner.id))
    assert directory.stat().st_mode & 0o777 == 0o700
    assert all(p.stat().st_mode & 0o077 == 0 for p in directory.iterdir())
    fd = os.open(directory, os.O_PATH)
    child = os.fork()
    if child == 0:
        code = 9
        try:
            os.chmod(directory / "vmshim", 0o666)
            os.setgroups([])
            os.setresgid(1000, 1000, 1000)
            os.setresuid(1000, 1000, 1000)
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(20)
            try:
                sock.connect(f"/proc/self/fd/{fd}/vmshim")
                sock.sendall(request("status", owner.id))
                code = 0 if sock.recv(10) == b"" else 5
            except OSError:
                code = 0
        finally:
            os._exit(code)
    os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert owner.status == "running"


def test_root_of_another_name(box: VmBox) -> None:
    """lifecycle 61, 145 (B1): it reaches both helpers; the logs are files of 0600."""
    root, log, console = box.dir / "another root", box.dir / "vm.log", box.dir / "console"
    where = box.bundle(fresh_spec("sh", "-c", "exit 4"))
    id = box.new_id()
    flags = ("--vm-log", log, "--shim-log", box.dir / "shim.log", "--vm-console", console)
    result = box.runtime.call("run", "--bundle", where, *flags, id, root=root, options=("--debug", "--log-format", "json"))
    assert result.code == 4
    assert log.stat().st_mode & 0o777 == 0o600
    for path in root.glob("@templates/*/facts"):
        os.kill(json.loads(path.read_text())["pid"], signal.SIGKILL)


def test_reused_id_does_not_reach_an_old_vm(box: VmBox) -> None:
    """lifecycle 31: sockets are named by the unique id."""
    id = box.new_id()
    first = box.create(fresh_spec(), id=id)
    where = box.sockets(id)
    first.delete("--force").ok()
    box.create(fresh_spec(), id=id)
    assert box.sockets(id) != where and not Path(where).exists()


def test_keys_that_cannot_be_written(box: VmBox) -> None:
    """lifecycle 71: the process is ended, and the error is start's."""
    container = box.create(fresh_spec("probe", "park"))
    (box.runtime.root / container.id / "pid").mkdir()
    container.verb("start").failed()
    (box.runtime.root / container.id / "pid").rmdir()
    container.wait()
    assert container.status == "stopped"


def test_a_vm_that_has_no_network_namespace(box: VmBox) -> None:
    """lifecycle 38, 159: loopback only, with a warning; no key."""
    spec = fresh_spec("sh", "-c", "ls /sys/class/net")
    spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "network"]
    result = box.run(spec).ok()
    assert result.out.split() == ["lo"] and "only a loopback interface" in result.err
