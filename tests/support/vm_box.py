"""The workbench for containers in VMs."""

import json
import os
import signal

from . import host
from .box import Box, Container


class VmBox(Box):
    """A workbench whose containers are in VMs."""

    def keys(self, id: str) -> dict:
        """Every key of an id that is JSON."""
        where = self.runtime.root / id
        return {p.name: json.loads(p.read_text()) for p in where.iterdir() if p.is_file() and p.name not in ("@id", "spec")}

    def pid_of(self, id: str, kind: str) -> int:
        """Of the helper of that kind that is on record."""
        return next(item["pid"] for item in self.keys(id)["resources"] if item["kind"] == kind)

    def sockets(self, id: str) -> str:
        return f"{self.runtime.root}/@vm/{self.keys(id)['state']['HostUniqueID']}"

    def member(self, owner: Container, spec: dict, *flags: object) -> Container:
        return self.start(spec, "--host", owner.id, *flags)

    def until_stopped(self, container: Container, timeout_s: float = 5) -> dict:
        """Wait until it counts as stopped; its `exit` key."""
        host.eventually(lambda: "exit" in self.keys(container.id), timeout_s)
        assert container.status == "stopped"
        return self.keys(container.id).get("exit", {})

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        os.kill(pid, number)
