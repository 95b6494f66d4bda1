"""The agent, in two places: alone on this machine in namespaces of its own, and in a guest under QEMU.

The tests of verbs run in both. What only one of them has is asked for by its own fixture.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import agent_alone, agent_vm, leaks
from support.agent_client import Client
from support.rootfs import build_template
from support.spec import fresh_spec

from skerry.vm import image


class Place:
    """A seeded agent and what it can make containers of."""

    def __init__(self, kind: str, client: Client, token: str, template: Path, process: subprocess.Popen) -> None:
        self.kind, self.client, self.token, self.template, self.process = kind, client, token, template, process
        self.made = 0

    def name(self) -> str:
        self.made += 1
        return f"{self.token}{self.made}"

    def spec(self, id: str, *args: str) -> dict:
        """Of a container with the shared, read-only rootfs; its network is the guest's own."""
        spec = fresh_spec(*args)
        spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "network"]
        spec["linux"]["cgroupsPath"] = f"/{self.token}/{id}"
        spec["root"]["path"] = str(self.template) if self.kind == "alone" else f"/run/skerry/storage/{id}/rootfs"
        return spec

    def storages(self) -> list[dict]:
        if self.kind == "alone":
            return []
        return [{"kind": "disk", "address": "0:0", "fs": "erofs", "read_only": True, "at": "rootfs"}]

    def create(self, *args: str, id: str = "", spec: dict | None = None, **more: object) -> str:
        id = id or self.name()
        more.setdefault("storages", self.storages())
        self.client.create(id, spec or self.spec(id, *args), **more)
        return id

    def run(self, *args: str, **more: object) -> str:
        """Create and start."""
        id = self.create(*args, **more)
        self.client.request("start", container=id)
        return id

    def process_spec(self, *args: str, **more: object) -> dict:
        return {**fresh_spec(*args)["process"], **more}

    def execute(self, id: str, *args: str, **more: object) -> tuple[dict, bytes]:
        """Run a process to its end: (exit, stdout and stderr)."""
        client = self.client
        name = f"e{client.next_id}"
        streams = client.open_streams("stdout", "stderr")
        client.exec(id, name, self.process_spec(*args, **more), streams=streams)
        end = client.exit_of(id, name)
        return end, client.output(streams["stdout"]) + client.output(streams["stderr"])

    def watcher(self) -> str:
        """A container that sees the processes of the guest, and may look into them; `look` runs there."""
        id = self.name()
        spec = self.spec(id, "sleep", "1000")
        spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "pid"]
        return self.run(id=id, spec=spec)

    def look(self, watcher: str, *args: str) -> str:
        caps = ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]
        sets = {name: caps for name in ("bounding", "effective", "permitted")}
        end, said = self.execute(watcher, *args, capabilities=sets)
        assert end["code"] == 0, said
        return said.decode()

    def remove(self, id: str) -> None:
        self.client.request("delete", container=id, force=True)


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.geteuid():
        pytest.skip("needs root")
    if shutil.which("busybox") is None:
        pytest.skip("needs a static busybox (package busybox-static)")
    place = tmp_path_factory.mktemp("agent")
    build_template(place)
    return place


@pytest.fixture(scope="session")
def alone(work: Path) -> Iterator[Place]:
    token = f"agt{os.urandom(3).hex()}"
    try:
        with agent_alone.started() as (client, process):
            client.hello()
            client.seed()
            yield Place("alone", client, token, work / "template", process)
        assert not [path for path in leaks.cgroups(token, token) if path.name != token]
    finally:
        leaks.remove_parents(token)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> image.Image:
    """The image of this checkout."""
    for program in (agent_vm.QEMU, "/usr/bin/mkfs.erofs", "/sbin/mke2fs"):
        if not os.path.exists(program):
            pytest.skip(f"needs {program}")
    return image.build(cache=str(tmp_path_factory.mktemp("images")))


@pytest.fixture(scope="session")
def disks(work: Path) -> list[tuple[Path, bool]]:
    """0:0 the rootfs, 1:0 and 2:0 scratches, 3:0 one that nobody formatted."""
    blank = work / "blank"
    with blank.open("wb") as file:
        file.truncate(1 << 20)
    return [
        (agent_vm.make_image(work / "template", work / "root.erofs"), True),
        (agent_vm.make_scratch(work / "scratch1"), False),
        (agent_vm.make_scratch(work / "scratch2"), False),
        (blank, False),
    ]


@pytest.fixture(scope="session")
def guest(built: image.Image, disks: list[tuple[Path, bool]], work: Path) -> Iterator[Place]:
    with agent_vm.Guest(built.kernel, built.initramfs, disks=disks, console=os.environ.get("CONSOLE")) as machine:
        machine.client.hello()
        machine.client.seed()
        yield Place("guest", machine.client, "g", work / "template", machine.process)
        machine.client.request("shutdown")
        machine.wait_end()


@pytest.fixture(autouse=True)
def tidy(request: pytest.FixtureRequest) -> Iterator[None]:
    """Remove what a test made."""
    names = {"alone", "guest", "place"} & set(request.fixturenames)
    places: list[Place] = [request.getfixturevalue(name) for name in names]
    before = [place.made for place in places]
    yield
    for place, first in zip(places, before, strict=True):
        for number in range(first + 1, place.made + 1):
            place.remove(f"{place.token}{number}")


@pytest.fixture(params=["alone", "guest"])
def place(request: pytest.FixtureRequest) -> Place:
    """Both, one after the other."""
    found: Place = request.getfixturevalue(request.param)
    return found
