"""Clones of the real agent: each is a machine of its own once it is seeded."""

import base64
import os
import time
from collections.abc import Callable, Iterator

import pytest

from skerry.errors import Error
from skerry.log import SILENT
from skerry.rpc.loop import Loop
from skerry.vm import image, template
from skerry.vm.guest import Guest
from skerry.vm.hardware import Hardware
from skerry.vm.machine import Machine

LIMIT_S = 60
Seed = Callable[..., tuple[Machine, dict]]


@pytest.fixture(scope="module")
def agent_hardware() -> Hardware:
    try:
        built = image.ensure()
    except Error as error:
        pytest.skip(f"no guest image: {error}")
    return Hardware(built.kernel, built.initramfs)


@pytest.fixture
def seeded(loop: Loop, root: str, agent_hardware: Hardware) -> Iterator[Seed]:
    """Start a clone and seed it; (machine, what the agent answered)."""
    started: list[tuple[Guest, Machine]] = []

    def start(entropy: bytes = b"", time_ns: int = 0) -> tuple[Machine, dict]:
        machine = loop.complete(template.start(loop, root, agent_hardware, log=SILENT))
        assert machine.cloned
        guest = Guest(
            loop, machine.take_link(), on_event=lambda _: None, on_end=lambda _: None, log=lambda _: None
        )
        started.append((guest, machine))
        text = base64.b64encode(entropy or os.urandom(64)).decode()
        asked = guest.request(
            loop, "seed", judge=lambda answer: answer, limit_s=LIMIT_S, entropy=text, time_ns=time_ns or time.time_ns()
        )
        while not asked.done:
            loop.turn()
        return machine, asked.result()

    yield start
    for guest, machine in started:
        guest.close()
        loop.complete(machine.stop())


def test_seeded_clones_differ(seeded: Seed) -> None:
    """The boot id is random bytes of the guest's kernel, drawn after the seed."""
    ids = [seeded()[1]["boot_id"] for _ in range(3)]
    assert len(set(ids)) == 3


def test_nothing_is_served_before_the_seed(loop: Loop, root: str, agent_hardware: Hardware) -> None:
    machine = loop.complete(template.start(loop, root, agent_hardware, log=SILENT))
    guest = Guest(loop, machine.take_link(), on_event=lambda _: None, on_end=lambda _: None, log=lambda _: None)
    try:
        asked = guest.request(loop, "identity", limit_s=LIMIT_S, hostname="early")
        while not asked.done:
            loop.turn()
        assert asked.error is not None
    finally:
        guest.close()
        loop.complete(machine.stop())
