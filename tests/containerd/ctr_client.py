"""Containers as `ctr`, containerd's own command line, makes them."""

import os
import subprocess

from containerd_driver import IMAGE, TOP, Containerd
from cri_messages import TASKS, classes
from grpc_unary import Connection
from support import host

RUNTIMES = {
    "runc": ("io.containerd.runc.v2",),
    "crun": ("io.containerd.runc.v2", "--runc-binary", "/usr/bin/crun"),
    "skerry-binary": ("io.containerd.runc.v2", "--runc-binary", str(TOP / "bin/skerry")),
    "skerry": ("io.containerd.skerry.v2",),
    "skerry-vm": ("io.containerd.skerry-vm.v2",),
}
MESSAGES = classes(TASKS)


class Ctr:
    """`run` runs a container in the foreground, `detached` gives the id of one in the background."""

    def __init__(self, daemon: Containerd, handler: str) -> None:
        self.daemon = daemon
        self.runtime_flags = ("--runtime", *RUNTIMES[handler])
        self.made: list[str] = []

    def new_id(self) -> str:
        self.made.append(f"c-{os.urandom(4).hex()}")
        return self.made[-1]

    def words(self, *flags: str, id: str, command: tuple[str, ...]) -> list[str]:
        return ["run", *self.runtime_flags, *flags, IMAGE, id, *command]

    def run(
        self, *command: str, flags: tuple[str, ...] = (), code: int = 0, **how
    ) -> subprocess.CompletedProcess:
        words = self.words("--rm", *flags, id=self.new_id(), command=command)
        return self.daemon.ctr(*words, code=code, **how)

    def detached(self, *command: str, flags: tuple[str, ...] = ()) -> str:
        id = self.new_id()
        # Its output goes nowhere: a detached ctr gives the fifos to nobody.
        flags = flags if "--log-uri" in flags else ("--null-io", *flags)
        self.daemon.ctr(*self.words("--detach", *flags, id=id, command=command))
        return id

    def create(self, *command: str) -> tuple[str, int]:
        """Create a container and its task, which `ctr` would start at once: the id and init's pid."""
        id = self.new_id()
        root = str(self.daemon.top / "template")
        words = ("containers", "create", *self.runtime_flags[:2], "--rootfs", root, id, *command)
        self.daemon.ctr(*words)
        request = MESSAGES["CreateTaskRequest"](container_id=id).SerializeToString()
        connection = Connection(self.daemon.socket)
        try:
            namespace = (("containerd-namespace", self.daemon.token),)
            answer = connection.call(f"{TASKS}.Tasks", "Create", request, metadata=namespace)
        finally:
            connection.close()
        return id, MESSAGES["CreateTaskResponse"].FromString(answer).pid

    def call(self, *words: str, **how) -> subprocess.CompletedProcess:
        return self.daemon.ctr(*words, **how)

    def exec(
        self, id: str, *command: str, flags: tuple[str, ...] = (), **how
    ) -> subprocess.CompletedProcess:
        words = ("tasks", "exec", "--exec-id", f"e-{os.urandom(4).hex()}", *flags, id, *command)
        return self.daemon.ctr(*words, **how)

    def status(self, id: str) -> str:
        """The status in `ctr tasks list`, or nothing."""
        rows = [line.split() for line in self.call("tasks", "list").stdout.splitlines()[1:]]
        return next((row[2] for row in rows if row[0] == id), "")

    def pid(self, id: str) -> int:
        rows = [line.split() for line in self.call("tasks", "list").stdout.splitlines()[1:]]
        return next(int(row[1]) for row in rows if row[0] == id)

    def until(self, id: str, status: str) -> None:
        host.eventually(lambda: self.status(id) == status, 20)

    def remove_all(self) -> None:
        for id in self.call("tasks", "list", "--quiet").stdout.split():
            self.call("tasks", "delete", "--force", id)
        for id in self.call("containers", "list", "--quiet").stdout.split():
            self.call("containers", "delete", id)
