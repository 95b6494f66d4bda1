"""Our QMP client against the reference one, qemu.qmp, on a real QEMU with a monitor for each."""

import asyncio
import socket
import subprocess
from collections.abc import Iterator

import pytest

from skerry.vm.hardware import HYPERVISOR
from skerry.vm.qmp import Qmp, QmpError

reference = pytest.importorskip("qemu.qmp")

COMMANDS = [
    ("query-version", {}), ("query-status", {}), ("query-commands", {}), ("query-block", {}),
    ("qom-list", {"path": "/machine"}), ("query-qmp-schema", {}),
]  # fmt: skip
WRONG = [
    ("nonsense", {}), ("qom-list", {}), ("qom-list", {"path": "/nowhere"}), ("device_add", {"driver": "nothing"}),
    ("query-status", {"surprise": 1}), ("migrate-incoming", {"uri": "fd:nothing"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def monitors() -> Iterator[tuple[socket.socket, socket.socket]]:
    pairs = [socket.socketpair() for _ in range(2)]
    words = [HYPERVISOR, "-M", "none", "-display", "none", "-nodefaults", "-no-user-config"]
    for number, (_, theirs) in enumerate(pairs):
        words += ["-chardev", f"socket,id=q{number},fd={theirs.fileno()}", "-mon", f"chardev=q{number},mode=control"]
    with subprocess.Popen(words, pass_fds=[theirs.fileno() for _, theirs in pairs]) as qemu:
        for _, theirs in pairs:
            theirs.close()
        yield pairs[0][0], pairs[1][0]
        qemu.kill()


@pytest.fixture(scope="module")
def ours(monitors: tuple[socket.socket, socket.socket]) -> Iterator[Qmp]:
    qmp = Qmp(monitors[0], limit_s=10)
    qmp.begin()
    yield qmp
    qmp.close()


@pytest.fixture(scope="module")
def theirs(monitors: tuple[socket.socket, socket.socket]) -> Iterator[object]:
    loop = asyncio.new_event_loop()
    client = reference.QMPClient("oracle")
    loop.run_until_complete(client.connect(monitors[1]))
    yield lambda name, arguments: loop.run_until_complete(client.execute(name, arguments or None))
    loop.run_until_complete(client.disconnect())
    loop.close()


@pytest.mark.parametrize(("name", "arguments"), COMMANDS, ids=lambda value: str(value))
def test_same_answers(ours: Qmp, theirs, name: str, arguments: dict) -> None:
    assert ours.execute(name, arguments) == theirs(name, arguments)


@pytest.mark.parametrize(("name", "arguments"), WRONG, ids=lambda value: str(value))
def test_same_errors(ours: Qmp, theirs, name: str, arguments: dict) -> None:
    with pytest.raises(QmpError) as found:
        ours.execute(name, arguments)
    with pytest.raises(reference.ExecuteError) as expected:
        theirs(name, arguments)
    assert found.value.kind == expected.value.error_class
    assert found.value.message == f"cannot {name}: {expected.value}"
