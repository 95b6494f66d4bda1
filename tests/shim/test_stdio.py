"""Fifos, files, loggers and terminals; readers that stop, vanish and come back."""

import os
import select
import signal
import time
from pathlib import Path

import pytest
from support import host, leaks
from support.containerd import RpcFailure


def read_all(fd: int, timeout_s: float = 10) -> bytes:
    """Until the end of file."""
    data, end = b"", time.monotonic() + timeout_s
    while time.monotonic() < end:
        if select.select([fd], [], [], 0.2)[0]:
            chunk = os.read(fd, 65536)
            if not chunk:
                return data
            data += chunk
    raise AssertionError(f"no end of file after {data[-200:]!r}")


def read_until(fd: int, word: bytes, timeout_s: float = 10) -> bytes:
    data, end = b"", time.monotonic() + timeout_s
    while word not in data:
        assert time.monotonic() < end, data
        if select.select([fd], [], [], 0.2)[0]:
            data += os.read(fd, 65536)
    return data


def reader(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def test_three_fifos(box):
    names = {name: box.fifo(name) for name in ("stdin", "stdout", "stderr")}
    out, err = reader(names["stdout"]), reader(names["stderr"])
    request = {name: str(path) for name, path in names.items()}
    client, id = box.running("sh", "-c", "cat; echo error >&2; exit 4", request=request)
    typing = os.open(names["stdin"], os.O_WRONLY)
    os.write(typing, b"one\n")
    assert read_until(out, b"one\n") == b"one\n"
    os.close(typing)  # no end yet: the client may come back
    assert not select.select([out], [], [], 0.2)[0]
    typing = os.open(names["stdin"], os.O_WRONLY)
    os.write(typing, b"two\n")
    os.close(typing)
    client.call("CloseIO", id=id, stdin=True)
    assert client.call("Wait", id=id)["exit_status"] == 4
    assert read_all(out) == b"two\n" and read_all(err) == b"error\n"
    state = client.call("State", id=id)
    assert {name: state[name] for name in request} == request
    box.end(client, id)


def test_a_reader_that_goes_breaks_nothing(box):
    """Output of the time without a reader is there for the next one."""
    path = box.fifo("out")
    first = reader(path)
    client, id = box.running("sh", "-c", "n=0; while sleep 0.05; do n=$((n+1)); echo $n; done", request={"stdout": str(path)})
    read_until(first, b"1\n")
    os.close(first)
    host.eventually(lambda: client.call("State", id=id)["status"] == 2)
    time.sleep(0.3)
    second = reader(path)
    assert read_until(second, b"8\n")
    assert client.call("State", id=id)["status"] == 2
    os.close(second)
    box.end(client, id)


def test_a_reader_that_stops_costs_nothing(box):
    """V36: an exec prints without end to nobody. The shim does not grow and does not work; kill and delete are quick."""
    path = box.fifo("out")
    stopped = reader(path)
    client, id = box.running("sleep", "1000")
    shim = box.shim(client)
    before = resident(shim)
    box.exec(client, id, "sh", "-c", "cat /dev/zero", stdout=str(path))
    ticks = cpu(shim)
    time.sleep(0.5)
    assert cpu(shim) - ticks <= 2 and resident(shim) - before < 2048
    client.call("Kill", id=id, exec_id="e", signal=9)
    assert client.answer(client.send("Wait", {"id": id, "exec_id": "e"}), 5)["exit_status"] == 137
    client.call("Delete", id=id, exec_id="e")
    os.close(stopped)
    box.end(client, id)


def resident(pid: int) -> int:
    return int(host.status_of(pid)["VmRSS"].split()[0])


def cpu(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_descriptors_go_back_to_what_they_were(box):
    """P17, V36: also where an exec leaves a child on its output."""
    path = box.fifo("out")
    fd = reader(path)
    client, id = box.running("sleep", "1000")
    shim = box.shim(client)
    count = len(os.listdir(f"/proc/{shim}/fd"))
    for n in range(40):
        box.exec(client, id, "sh", "-c", "sleep 1000 & exit 0", exec_id=f"e{n}", stdout=str(path), stderr=str(path))
        client.call("Wait", id=id, exec_id=f"e{n}")
        client.call("Delete", id=id, exec_id=f"e{n}")
    assert len(os.listdir(f"/proc/{shim}/fd")) == count
    os.close(fd)
    box.end(client, id)


def test_to_a_file(box):
    path = box.top / "made/by/log"
    uri = f"file://{path}"
    client, id = box.running("sh", "-c", "echo out; echo err >&2", request={"stdout": uri, "stderr": uri})
    client.call("Wait", id=id)
    assert path.read_text() == "out\nerr\n"
    box.end(client, id)
    client, id = box.running("echo", "more", request={"stdout": uri})
    client.call("Wait", id=id)
    assert path.read_text() == "out\nerr\nmore\n"
    box.end(client, id)


LOGGER = """#!/bin/sh
echo "$CONTAINER_ID $CONTAINER_NAMESPACE $*" > {log}
exec 5>&-
cat <&3 >> {log}
cat <&4 >> {log}
echo end >> {log}
"""


def test_to_a_logger(box):
    log, program = box.top / "log", box.top / "logger"
    program.write_text(LOGGER.format(log=log))
    program.chmod(0o755)
    uri = f"binary://{program}?a=b&c"
    client, id = box.running("sh", "-c", "echo out; echo err >&2", request={"stdout": uri, "stderr": uri})
    client.call("Wait", id=id)
    expected = f"{id} {box.token} a b c \nout\nerr\nend\n"
    host.eventually(lambda: log.read_text() == expected)
    box.end(client, id)


def test_a_logger_that_is_never_ready(box, monkeypatch):
    program = box.top / "logger"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    id = box.bundle("true")
    client = box.start(id)
    waiting = client.send("Create", {"id": id, "bundle": str(box.path(id)), "stdout": f"binary://{program}"})
    other, other_id = box.running("true", id=f"o-{box.token[-6:]}")
    other.call("Wait", id=other_id)
    with pytest.raises(RpcFailure, match="logger was not ready"):
        client.answer(waiting, 15)
    host.eventually(lambda: not any(leaks.name_of(pid).startswith("sleep 1000") and not leaks.is_dead(pid) for pid in host.descendants()))
    box.end(other, other_id)
    client.call("Shutdown", id=id)


@pytest.mark.parametrize("uri", ["npipe://x", "binary:///nonexistent/logger", "/nonexistent/fifo"])
def test_output_that_is_not_there(box, uri):
    id = box.bundle("true")
    client = box.start(id)
    with pytest.raises(RpcFailure):
        client.call("Create", id=id, bundle=str(box.path(id)), stdout=uri)
    client.call("Shutdown", id=id)


def test_no_logger_from_an_annotation(box):
    """V39 (CVE-2026-53488): what an image or a tenant wrote names no program."""
    mark = box.top / "mark"
    program = box.top / "logger"
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    annotations = {name: f"binary://{program}" for name in ("log", "stdout", "io.containerd.log", "containerd.io/log-uri")}
    client, id = box.running("echo", "x", annotations=annotations)
    client.call("Wait", id=id)
    box.end(client, id)
    assert not mark.exists()


def test_terminal(box):
    names = {name: box.fifo(name) for name in ("stdin", "stdout")}
    out = reader(names["stdout"])
    request = {"terminal": True, **{name: str(path) for name, path in names.items()}}
    client, id = box.created("sh", request=request, process=terminal_process("sh"))
    client.call("ResizePty", id=id, width=91, height=37)
    client.call("Start", id=id)
    typing = os.open(names["stdin"], os.O_WRONLY)
    os.write(typing, b"stty size; tty; exit 6\n")
    text = read_until(out, b"/dev/pts/0")
    assert b"37 91" in text
    assert client.call("Wait", id=id)["exit_status"] == 6
    read_all(out)
    os.close(typing)
    box.end(client, id)


def terminal_process(*args: str) -> dict:
    return {"terminal": True, "args": list(args)}


def test_terminal_of_an_exec(box):
    names = {name: box.fifo(name) for name in ("stdin", "stdout")}
    out = reader(names["stdout"])
    client, id = box.running("sleep", "1000")
    paths = {name: str(path) for name, path in names.items()}
    spec = box.process("sh", "-c", "stty size; read x; stty size; echo $x", terminal=True)
    client.call("Exec", id=id, exec_id="t", terminal=True, spec=spec, **paths)
    client.call("Start", id=id, exec_id="t")
    client.call("ResizePty", id=id, exec_id="t", width=55, height=44)
    typing = os.open(names["stdin"], os.O_WRONLY)
    os.write(typing, b"word\n")
    assert b"44 55\r\nword\r\n" in read_all(out)
    os.close(typing)
    assert client.call("Wait", id=id, exec_id="t")["exit_status"] == 0
    client.call("Delete", id=id, exec_id="t")
    box.end(client, id)


def test_a_terminal_whose_reader_stops(box):
    """The end is told while output is held up; delete gives the output its time and no more; nothing spins."""
    names = {name: box.fifo(name) for name in ("stdin", "stdout")}
    out = reader(names["stdout"])
    client, id = box.running("sleep", "1000")
    paths = {name: str(path) for name, path in names.items()}
    spec = box.process("sh", "-c", "dd if=/dev/zero bs=1k count=300 2>/dev/null", terminal=True)
    client.call("Exec", id=id, exec_id="t", terminal=True, spec=spec, **paths)
    client.call("Start", id=id, exec_id="t")
    time.sleep(0.3)
    shim = box.shim(client)
    ticks = cpu(shim)
    time.sleep(0.5)
    assert cpu(shim) - ticks <= 2
    client.call("Kill", id=id, exec_id="t", signal=signal.SIGKILL)
    assert client.call("Wait", id=id, exec_id="t")["exit_status"] == 137
    deleting = client.send("Delete", {"id": id, "exec_id": "t"})
    assert not client.has_answer(deleting)
    assert client.answer(deleting, 15)["exit_status"] == 137
    os.close(out)
    box.end(client, id)


def test_no_streams(box):
    client, id = box.running("sh", "-c", "cat; echo x; echo y >&2; readlink /proc/self/fd/0 | grep -q null")
    assert client.call("Wait", id=id)["exit_status"] == 0
    box.end(client, id)
