"""Bundles, calls and the question what is left, for the tests of the shim."""

import contextlib
import json
import os
import shutil
import signal
from pathlib import Path

from support import host, leaks
from support.containerd import V2, Client, Containerd, RpcFailure
from support.rootfs import copy_template
from support.spec import fresh_spec

from skerry.shims.task import zygote

STORE = Path("/run/containerd/skerry")


class Box:
    """One containerd, its bundles and its pods."""

    def __init__(self, top: Path, template: Path, shim: Path, version: str) -> None:
        self.top = top
        self.template = template
        self.token = top.name
        self.containerd = Containerd(top, shim, version)
        self.containerd.namespace = self.token
        self.events = self.containerd.events
        self.sockets: set[Path] = set()
        self.ids = 0

    def bundle(self, *args: str, id: str = "", **changes: object) -> str:
        """Make a bundle that runs `args`; `changes` are written into the spec. The id."""
        self.ids += 1
        id = id or f"c{self.ids}-{self.token[-6:]}"
        path = self.containerd.bundle(id)
        path.mkdir()
        os.mkfifo(path / "log")
        copy_template(self.template, path / "rootfs")
        spec = fresh_spec(*args)
        spec["linux"]["cgroupsPath"] = f"/{self.token}/{id}"
        for name, value in changes.items():
            if isinstance(value, dict) and isinstance(spec.get(name), dict):
                spec[name] |= value
            else:
                spec[name] = value
        (path / "config.json").write_text(json.dumps(spec))
        return id

    def path(self, id: str) -> Path:
        return self.containerd.bundle(id)

    def start(self, id: str, service: str = V2, **how: object) -> Client:
        """Run the start action and connect."""
        address = self.containerd.start(id, **how)
        self.sockets.add(Path(address.removeprefix("unix://")))
        return self.containerd.connect(address, service)

    def created(self, *args: str, service: str = V2, request: dict | None = None, **changes: object) -> tuple[Client, str]:
        id = self.bundle(*args, **changes)
        client = self.start(id, service)
        client.call("Create", id=id, bundle=str(self.path(id)), **(request or {}))
        return client, id

    def running(self, *args: str, **how: object) -> tuple[Client, str]:
        client, id = self.created(*args, **how)
        client.call("Start", id=id)
        return client, id

    def process(self, *args: str, **changes: object) -> dict:
        """The `spec` of an Exec request."""
        value = json.dumps({**fresh_spec(*args)["process"], **changes}).encode()
        url = "types.containerd.io/opencontainers/runtime-spec/1/Process"
        return {"type_url": url, "value": value}

    def exec(self, client: Client, id: str, *args: str, exec_id: str = "e", **request: object) -> int:
        client.call("Exec", id=id, exec_id=exec_id, spec=self.process(*args), **request)
        return client.call("Start", id=id, exec_id=exec_id)["pid"]

    def end(self, client: Client, id: str) -> dict:
        """Kill, wait, delete, and the order to end; what Wait said."""
        state = client.call("State", id=id)
        if state["status"] != 3:
            with contextlib.suppress(RpcFailure):  # it may end by itself
                client.call("Kill", id=id, signal=9, all=True)
        ended = client.call("Wait", id=id)
        client.call("Delete", id=id)
        client.call("Shutdown", id=id)
        return ended

    def fifo(self, name: str) -> Path:
        path = self.top / name
        os.mkfifo(path)
        return path

    def shim(self, client: Client) -> int:
        return client.call("Connect", id="")["shim_pid"]

    # what is left

    def shims(self) -> list[int]:
        """The daemons of this containerd, and what they have made."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or leaks.is_dead(int(entry.name)):
                continue
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            ours = {self.containerd.grpc.encode(), f"{STORE}/{self.token}".encode()}  # the latter: helpers of VMs
            if ours & set(words) and not self._is_zygote(int(entry.name)):
                found.append(int(entry.name))
        return found

    def _is_zygote(self, pid: int) -> bool:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b"zygote" in words and not Path(f"/proc/{pid}/comm").read_text().startswith("shim:")

    def zygotes(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if self.containerd.grpc.encode() in words and self._is_zygote(int(entry.name)):
                    found.append(int(entry.name))
            except (OSError, ValueError):
                continue
        return [pid for pid in found if not leaks.is_dead(pid)]

    def zygote_socket(self) -> Path:
        return Path(zygote.place(self.containerd.grpc, "/run/containerd/s").path)

    def left(self) -> list[str]:
        found = [f"process {pid} {leaks.name_of(pid)}" for pid in self.shims()]
        found += [f"cgroup {path}" for path in self.cgroups()]
        found += [f"mount {row['point']}" for row in host.mountinfo() if str(self.top) in row["point"]]
        found += [f"file {path}" for path in (STORE / self.token).glob("[!@]*")]
        found += [f"file {path}" for path in self.sockets if path.exists()]
        return found

    def cgroups(self) -> list[Path]:
        found = []
        for mount in set(host.cgroup_mounts().values()):
            found += [path for path in (mount / self.token).glob("*/") if path.is_dir()]
        return found

    def clean(self) -> list[str]:
        self.containerd.close()
        return leaks.settle(self.left, timeout_s=10)

    def kill_everything(self) -> None:
        for pid in [*self.shims(), *self.zygotes()]:
            os.kill(pid, signal.SIGKILL)
        self.zygote_socket().unlink(missing_ok=True)
        for path in self.sockets:
            path.unlink(missing_ok=True)
        for path in self.cgroups():
            for line in (path / "cgroup.procs").read_text().split():
                os.kill(int(line), signal.SIGKILL)
        leaks.settle(lambda: [str(path) for path in self.cgroups() if not _gone(path)], 2)
        for mount in set(host.cgroup_mounts().values()):
            if (mount / self.token).is_dir():
                _gone(mount / self.token)
        for pid in leaks.keepers(STORE / self.token):  # of the VMs' template
            os.kill(pid, signal.SIGKILL)
        leaks.unmount_below(str(self.top))
        shutil.rmtree(STORE / self.token, ignore_errors=True)


def _gone(path: Path) -> bool:
    try:
        path.rmdir()
    except OSError:
        return False
    return True
