"""File descriptors: what is passed on purpose, and that nothing else is."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import host
from support.box import Box
from support.runtime import Result
from support.spec import fresh_spec, shell


@pytest.fixture
def kept() -> Iterator[tuple[int, ...]]:
    """Files that the caller has open."""
    files = tuple(os.memfd_create(f"kept{number}") for number in (3, 4, 5))
    yield files
    for fd in files:
        os.close(fd)


def numbers(result: Result) -> dict[int, str]:
    """Read what `probe fds` printed."""
    return {int(n): target for n, target in (line.split(" ", 1) for line in result.ok().lines)}


def test_nothing_but_stdio(box: Box, kept: tuple[int, ...]) -> None:
    """lifecycle 62, V12: whatever the caller leaks."""
    assert set(numbers(box.run(fresh_spec("probe", "fds"), fds=kept))) == {0, 1, 2}


@pytest.mark.parametrize("count", [1, 3])
def test_preserve_fds(box: Box, kept: tuple[int, ...], count: int) -> None:
    """lifecycle 131."""
    found = numbers(box.run(fresh_spec("probe", "fds"), "--preserve-fds", count, fds=kept))
    assert set(found) == {0, 1, 2, *range(3, 3 + count)}
    assert "kept3" in found[3]


def test_preserve_fds_through_create_and_start(box: Box, kept: tuple[int, ...]) -> None:
    container = box.create(fresh_spec("probe", "fds"), "--preserve-fds", 2, fds=kept)
    container.start()
    assert [line.split()[0] for line in container.stream.rest().splitlines()] == ["0", "1", "2", "3", "4"]


def test_listen_fds(box: Box) -> None:
    """lifecycle 131: LISTEN_FDS passes that many, and the variables with init's own pid."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(box.dir / "s"))
        spec = shell("echo $LISTEN_FDS $LISTEN_PID; probe fds")
        result = box.run(spec, fds=(listener.fileno(),), env={"LISTEN_FDS": "1"}).ok()
    assert result.lines[0].split() == ["1", "1"]
    assert [line.split()[0] for line in result.lines[1:]] == ["0", "1", "2", "3"]
    assert "socket" in result.lines[-1]


@pytest.mark.skerry_only("V12: a number that the caller left free may be the runtime's own file by then")
@pytest.mark.parametrize("verb", ["create", "run", "exec"])
def test_files_of_ours_are_not_preserved(box: Box, verb: str) -> None:
    """V12: our log is open on the lowest free number, and a signal pipe on the next ones."""
    log = ("--log", str(box.dir / "log"))
    text = "cannot preserve fd 3 (of 2 from 3 on): it is not open"
    if verb == "exec":
        container = box.parked(fresh_spec())
        container.exec("probe", "fds", flags=("--preserve-fds", 2), options=log).failed(255).says(text)
    else:
        box.try_create(fresh_spec("probe", "fds"), "--preserve-fds", 2, verb=verb, options=log).failed().says(text)


@pytest.mark.parametrize("count", ["1000000", "-1", "x", "1.5"])
def test_bad_number_of_fds(box: Box, count: str) -> None:
    """security 8."""
    id = box.new_id()
    where = box.bundle(fresh_spec())
    assert box.runtime.call("create", "--bundle", where, f"--preserve-fds={count}", id).failed()
    assert box.leftovers() == []


def test_created_init_holds_no_host_directory(box: Box) -> None:
    """V02-lite, V12: of a created init, every fd is stdio or ours by kind: sockets, pipes, memfds, never a path of the host."""
    container = box.create(fresh_spec())
    found = {}
    for fd in os.listdir(f"/proc/{container.pid}/fd"):
        found[int(fd)] = os.readlink(f"/proc/{container.pid}/fd/{fd}")
    found = {fd: target for fd, target in found.items() if fd > 2}
    directories = {fd: t for fd, t in found.items() if t.startswith("/") and os.path.isdir(f"/proc/{container.pid}/fd/{fd}")}
    assert directories == {}


@pytest.mark.skerry_only("decisions 4: a created init holds its gate and nothing else")
def test_created_init_holds_only_the_gate(box: Box) -> None:
    """It closes the conversation when it reads create's last word, a moment after create has ended."""
    container = box.create(fresh_spec())

    def kinds() -> list[str]:
        fds = [fd for fd in os.listdir(f"/proc/{container.pid}/fd") if int(fd) > 2]
        try:
            return sorted(os.readlink(f"/proc/{container.pid}/fd/{fd}").split(":")[0] for fd in fds)
        except FileNotFoundError:  # closed in between
            return []

    host.eventually(lambda: kinds() == ["anon_inode", "socket"])


@pytest.mark.skerry_only("V03: init runs from a sealed memfd")
def test_created_init_is_a_sealed_memfd(box: Box) -> None:
    """F_GET_SEALS = 1034; F_SEAL_SEAL | SHRINK | GROW | WRITE = 15."""
    import fcntl

    container = box.create(fresh_spec())
    exe = f"/proc/{container.pid}/exe"
    assert "memfd:" in os.readlink(exe)
    fd = os.open(exe, os.O_RDONLY)
    assert fcntl.fcntl(fd, 1034) & 15 == 15
    os.close(fd)


def test_cwd_of_a_created_init_is_in_the_container(box: Box) -> None:
    """V12: neither cwd nor root is the host's."""
    container = box.create(fresh_spec())
    for link in ("cwd", "root"):
        assert os.stat(f"/proc/{container.pid}/{link}").st_ino == os.stat(container.rootfs).st_ino


@pytest.mark.parametrize("fd", range(3, 16))
def test_cwd_through_a_leaked_fd(box: Box, fd: int) -> None:
    """V12: process.cwd = /proc/self/fd/N never reaches the host."""
    marker = box.dir / "marker"
    marker.write_text("host marker")
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    spec = shell(f"cat .{marker} ../../..{marker}; pwd")
    spec["process"]["cwd"] = f"/proc/self/fd/{fd}"
    result = box.run(spec, pass_fds=(leak,))
    os.close(leak)
    assert "host marker" not in result.out
    assert result.code != 0


@pytest.mark.parametrize("fd", [3, 7, 9, 12])
def test_program_through_a_leaked_fd(box: Box, fd: int) -> None:
    """V12: args[0] = /proc/self/fd/N/..."""
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    result = box.run(fresh_spec(f"/proc/self/fd/{fd}/bin/busybox", "echo", "escaped"), pass_fds=(leak,))
    os.close(leak)
    assert result.code != 0
    assert "escaped" not in result.out


@pytest.mark.parametrize("uid", [0, 1000])
def test_stdio_can_be_opened_again(box: Box, uid: int) -> None:
    """decisions 23: pipes on 0-2 are given to the container's uid, or /dev/stdout fails."""
    spec = shell("echo out > /dev/stdout; echo err > /dev/stderr")
    spec["process"]["user"] = {"uid": uid, "gid": uid}
    end, out = os.pipe()
    result = box.run(spec, stdout=out)
    os.close(out)
    assert result.code == 0, result
    assert os.read(end, 100) == b"out\n"
    os.close(end)


def test_owner_of_null_as_stdio_is_kept(box: Box, null: int) -> None:
    """V20, decisions 23: never the owner of a device."""
    before = os.stat("/dev/null")
    spec = fresh_spec("true")
    spec["process"]["user"] = {"uid": 1000, "gid": 1000}
    box.run(spec, stdin=null, stdout=null, stderr=null).ok()
    container = box.parked(fresh_spec())
    container.exec("true", flags=("-u", "1000"), stdin=null, stdout=null, stderr=null).ok()
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def test_owner_of_a_file_as_stdio_is_kept(box: Box) -> None:
    """decisions 23: never a regular file's."""
    path = box.dir / "out"
    spec = fresh_spec("echo", "up")
    spec["process"]["user"] = {"uid": 1000, "gid": 1000}
    with path.open("wb") as out:
        box.run(spec, stdout=out.fileno()).ok()
    assert path.read_text() == "up\n"
    assert path.stat().st_uid == 0


def test_no_fds_of_ours_in_hooks(box: Box, kept: tuple[int, ...]) -> None:
    """lifecycle 62: a hook has stdin, stdout, stderr."""
    spec = fresh_spec()
    template = box.dir / "fds"
    spec["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"ls -l /proc/$$/fd > {template}"]}]}
    box.run(spec, fds=kept).ok()
    beyond = [line for line in template.read_text().splitlines()[1:] if line.split()[8] not in ("0", "1", "2")]
    assert not [line for line in beyond if "kept" in line]


def test_pidfd_socket(box: Box) -> None:
    """lifecycle 131: the pidfd of init comes over the socket."""
    import array

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(box.dir / "pidfd"))
        listener.listen(1)
        listener.settimeout(10)
        container = box.create(fresh_spec("probe", "park"), "--pidfd-socket", box.dir / "pidfd")
        connection, _ = listener.accept()
        with connection:
            _, control, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(16), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for _, _, data in control:
        fds.frombytes(data)
    assert host.fields(Path(f"/proc/self/fdinfo/{fds[0]}").read_text())["Pid"] == str(container.pid)
    os.close(fds[0])
