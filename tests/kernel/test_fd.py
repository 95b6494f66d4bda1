"""Sealed memory files and descriptors that travel, on the real kernel."""

import _socket
import array
import errno
import fcntl
import mmap
import os
import resource
import socket

import pytest

from skerry.errors import KernelError, RpcError
from skerry.linux import fd as fds


@pytest.fixture
def pair():
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ends = [_socket.socket(fileno=end.detach()) for end in (a, b)]
    yield ends
    for end in ends:
        end.close()


@pytest.fixture(autouse=True)
def nothing_stays_open():
    """P17."""
    before = fds.open_fds()
    yield
    assert fds.open_fds() == before


@pytest.mark.parametrize("executable", [False, True])
def test_a_memfd_cannot_be_changed(executable):
    """V03 (CVE-2019-5736)."""
    data = os.urandom(300_000)
    fd = fds.memfd("test", data, executable=executable)
    try:
        assert os.read(fd, 400_000) == data
        for change in (
            lambda: os.write(fd, b"x"),
            lambda: os.pwrite(fd, b"x", 0),
            lambda: os.ftruncate(fd, 10),
            lambda: os.ftruncate(fd, 400_000),
            lambda: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0),
            lambda: mmap.mmap(fd, 100, mmap.MAP_SHARED, mmap.PROT_WRITE),
        ):
            with pytest.raises(OSError) as caught:
                change()
            assert caught.value.errno == errno.EPERM
        # a second opening of it, writable, changes nothing either
        again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
        with pytest.raises(OSError):
            os.write(again, b"x")
        os.close(again)
        assert not os.get_inheritable(fd)
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fds.SEALS == fds.SEALS
    finally:
        os.close(fd)


def test_only_an_executable_one_may_be_executed():
    with open("/bin/busybox", "rb") as file:
        program = file.read()
    for executable in (True, False):
        fd = fds.memfd("true", program, executable=executable)
        assert os.access(f"/proc/self/fd/{fd}", os.X_OK) is executable
        os.close(fd)


def test_an_older_kernel_knows_no_exec_flags(monkeypatch):
    """Before Linux 6.3 memfd_create says EINVAL to them, and F_ADD_SEALS to the exec seal."""
    create, control = os.memfd_create, fcntl.fcntl

    def old_create(name, flags):
        if flags & (fds.MFD_EXEC | fds.MFD_NOEXEC_SEAL):
            raise OSError(errno.EINVAL, "")
        return create(name, flags)

    def old_control(fd, command, argument=0):
        if command == fcntl.F_ADD_SEALS and argument & fds.F_SEAL_EXEC:
            raise OSError(errno.EINVAL, "")
        return control(fd, command, argument)

    monkeypatch.setattr("posix.memfd_create", old_create)
    monkeypatch.setattr("fcntl.fcntl", old_control)
    fd = fds.memfd("test", b"abc", executable=True)
    monkeypatch.undo()
    assert os.read(fd, 9) == b"abc"
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == fds.SEALS
    os.close(fd)


def test_seals_that_do_not_hold_are_noticed(monkeypatch):
    control = fcntl.fcntl
    monkeypatch.setattr(
        "fcntl.fcntl", lambda fd, c, a=0: 0 if c == fcntl.F_ADD_SEALS else control(fd, c, a)
    )
    with pytest.raises(KernelError, match="^cannot fill memory file test: EPERM"):
        fds.memfd("test", b"abc")


def test_where_memfds_may_not_be_executed_the_sysctl_is_named(monkeypatch):
    """decisions.md 11."""

    def refuse(name, flags):
        raise PermissionError(errno.EACCES, "")

    monkeypatch.setattr("posix.memfd_create", refuse)
    with pytest.raises(KernelError, match=r"EACCES .*vm\.memfd_noexec") as caught:
        fds.memfd("test", b"abc", executable=True)
    assert caught.value.errno == errno.EACCES


@pytest.mark.parametrize("count", [0, 1, 2, 253])
def test_descriptors_travel_and_are_not_inherited(pair, count):
    """P01: Python's recvmsg does not set close-on-exec."""
    source = os.open("/dev/null", os.O_RDONLY)
    fds.send_with_fds(pair[0], b"data", [source] * count)
    data, received = fds.recv_with_fds(pair[1], 100)
    assert data == b"data"
    assert len(received) == count
    for fd in received:
        assert not os.get_inheritable(fd)
        assert os.path.sameopenfile(fd, source)
    fds.close_all(received)
    os.close(source)


def test_a_message_that_is_too_long_is_no_message(pair):
    source = os.open("/dev/null", os.O_RDONLY)
    fds.send_with_fds(pair[0], b"x" * 101, [source, source])
    os.close(source)
    with pytest.raises(RpcError, match="longer than 100 bytes"):
        fds.recv_with_fds(pair[1], 100)


def test_descriptors_that_find_no_room_are_an_error(pair):
    """At the limit of open files the kernel drops them and cuts the control message."""
    source = os.open("/dev/null", os.O_RDONLY)  # the lowest free number
    fds.send_with_fds(pair[0], b"x", [source] * 200)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (source + 5, limits[1]))
    try:
        with pytest.raises(RpcError, match="descriptors were lost"):
            fds.recv_with_fds(pair[1], 100)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        os.close(source)


def test_other_control_messages_are_not_descriptors(pair):
    pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    fds.send_with_fds(pair[0], b"x", [])
    assert fds.recv_with_fds(pair[1], 100) == (b"x", [])


def test_the_end_is_an_empty_message(pair):
    pair[0].close()
    assert fds.recv_with_fds(pair[1], 100) == (b"", [])


def test_a_peer_that_is_gone_is_an_error_and_no_signal(pair):
    pair[1].close()
    with pytest.raises(KernelError, match="EPIPE"):
        fds.send_with_fds(pair[0], b"x", [])


def test_a_stream_takes_all_of_it():
    a, b = socket.socketpair()
    source = os.open("/dev/null", os.O_RDONLY)
    sender, receiver = (_socket.socket(fileno=end.detach()) for end in (a, b))
    payload = bytes(range(256)) * 4000
    pid = os.fork()
    if pid == 0:
        fds.send_with_fds(sender, payload, [source])
        os._exit(0)
    sender.close()
    data, received = fds.recv_with_fds(receiver, 65536)
    while chunk := receiver.recv(65536):
        data += chunk
    assert data == payload
    assert len(received) == 1
    fds.close_all(received)
    receiver.close()
    os.close(source)
    assert os.waitpid(pid, 0)[1] == 0


def test_lift_moves_out_of_the_way():
    fd = os.open("/dev/null", os.O_RDONLY)
    lifted = fds.lift(fd, 100)
    assert lifted >= 100
    assert os.path.sameopenfile(fd, lifted)
    assert not os.get_inheritable(lifted)
    fds.close_all([fd, lifted])
    with pytest.raises(KernelError, match="EBADF"):
        fds.lift(fd, 100)


def test_open_fds_are_those_and_no_others():
    before = fds.open_fds()
    fd = os.open("/dev/null", os.O_RDONLY)
    assert set(fds.open_fds()) - set(before) == {fd}
    os.set_inheritable(fd, True)
    assert fds.is_inheritable(fd)
    os.close(fd)
    assert fds.open_fds() == before


def test_close_all_closes_the_rest_after_a_closed_one():
    one, two = os.open("/dev/null", os.O_RDONLY), os.open("/dev/null", os.O_RDONLY)
    os.close(one)
    fds.close_all([one, two])
    with pytest.raises(OSError):
        os.fstat(two)


def test_array_of_received_descriptors_is_native_ints():
    """struct's `i` is what SCM_RIGHTS carries."""
    assert array.array("i").itemsize == fds._INT_BYTES
