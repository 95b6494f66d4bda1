"""dockerd with the runtime under test below its runc shim, kept to a directory and namespaces of the tests' own.

The runtime is `RUNTIME` (a path), else the checkout's `bin/skerry`. Nothing comes from a network: the image is made of the
machine's static busybox.

dockerd gets a network namespace, in which its bridge and its iptables rules are nobody else's; a mount namespace, so that
what it mounts goes with it; and a /run of its own, for its containerd, the shims and iptables have files at fixed places
there. Its containers' cgroups are below a parent of the run's own name.
"""

import json
import os
import subprocess
import time
from pathlib import Path

from support.interactive import Terminal

TOP = Path(__file__).resolve().parents[2]
RUNTIME = Path(os.environ.get("RUNTIME") or TOP / "bin/skerry").resolve()
# Debian's; another client that comes first in PATH may be too new for this daemon.
CLIENT = "/usr/bin/docker"
IMAGE = "busybox"
TIMEOUT_S = 60

PRIVATE = """
mount --make-rslave / && mount -t tmpfs tmpfs /run && ip link set lo up && exec dockerd --config-file "$0"
"""


class Docker:
    """A private docker: `call` gives the finished process, `out` its stdout, `terminal` a pty."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.name = "under-test"
        self.parent = f"/docker-test-{top.parent.name}-{os.getpid()}"
        self.environment = os.environ | {"DOCKER_HOST": f"unix://{top}/socket", "DOCKER_CONFIG": str(top)}
        (top / "daemon.json").write_text(json.dumps(self.configuration()))
        self.log = top / "log"
        with self.log.open("wb") as log:
            self.daemon = subprocess.Popen(
                ["unshare", "--mount", "--net", "sh", "-ec", PRIVATE, top / "daemon.json"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.until(lambda: b"API listen on" in self.log.read_bytes())

    def configuration(self) -> dict:
        top = self.top
        return {
            "data-root": f"{top}/data", "exec-root": f"{top}/exec", "pidfile": f"{top}/pid", "hosts": [f"unix://{top}/socket"],
            "runtimes": {self.name: {"path": str(RUNTIME)}}, "default-runtime": self.name, "storage-driver": "vfs",
            "exec-opts": ["native.cgroupdriver=cgroupfs"], "cgroup-parent": self.parent, "log-driver": "json-file",
        }  # fmt: skip

    def stop(self) -> None:
        self.daemon.terminate()
        try:
            self.daemon.wait(TIMEOUT_S)
        finally:
            self.daemon.kill()

    def until(self, question) -> None:
        """dockerd has no fd to wait on."""
        deadline = time.monotonic() + TIMEOUT_S
        while not question():
            assert self.daemon.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.05)

    def call(self, *arguments: str, code: int = 0, **options) -> subprocess.CompletedProcess:
        options = {"stdin": subprocess.DEVNULL} | options
        done = subprocess.run(
            [CLIENT, *arguments], env=self.environment, capture_output=True, text=True, timeout=TIMEOUT_S, **options
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def out(self, *arguments: str, **options) -> str:
        return self.call(*arguments, **options).stdout.strip()

    def run(self, *words: str, **options) -> str:
        return self.out("run", "--rm", *words, **options)

    def inspect(self, name: str, field: str) -> str:
        return self.out("inspect", "--format", "{{" + field + "}}", name)

    def runtime_ids(self) -> set[str]:
        """What the runtime itself knows, in the root that docker has given it."""
        command = [RUNTIME, "--root", self.top / "exec/runtime-runc/moby", "list", "-q"]
        return set(subprocess.check_output(command, text=True).split())

    def terminal(self, *arguments: str, rows: int = 24, columns: int = 80) -> Terminal:
        return Terminal([CLIENT, *arguments], self.environment, rows, columns)
