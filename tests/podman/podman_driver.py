"""podman and conmon, kept to a directory of the tests' own, with the runtime under test below them.

The runtime is `RUNTIME` (a path), else the checkout's `bin/skerry`. Nothing comes from a network:
the image is made of the machine's static busybox, its containers have no network or the host's.

The settings that are easy to get wrong: limits above the host's hard limit make every container
fail where there is no CAP_SYS_RESOURCE; conmon's clean-up process sees only the variables named in
`conmon_env_vars`; the bridge network writes its configuration to /etc unless told where;
`--runtime-flag` does not reach the clean-up process either, so a script in between gives the
runtime its private state directory.
"""

import os
import subprocess
import time
from pathlib import Path

from support.interactive import Terminal, read_until

TOP = Path(__file__).resolve().parents[2]
RUNTIME = Path(os.environ.get("RUNTIME") or TOP / "bin/skerry").resolve()
IMAGE = "localhost/busybox"
TIMEOUT_S = 60

CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "none"
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
infra_image = "{image}"
infra_command = "/bin/sleep inf"
conmon_env_vars = [
  "CONTAINERS_CONF={top}/containers.conf",
  "CONTAINERS_STORAGE_CONF={top}/storage.conf",
]
runtime = "{runtime.name}"
runtime_supports_json = ["{runtime.name}"]
[engine.runtimes]
{runtime.name} = ["{top}/runtime/{runtime.name}"]
[network]
network_config_dir = "{top}/networks"
"""

STORAGE_CONF = """
[storage]
driver = "vfs"
graphroot = "{top}/graph"
runroot = "{top}/run"
"""


class Podman:
    """A private podman: `call` gives the finished process, `out` its stdout, `terminal` a pty."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.pods: set[str] = set()
        for name, text in (("containers.conf", CONTAINERS_CONF), ("storage.conf", STORAGE_CONF)):
            (top / name).write_text(text.format(top=top, runtime=RUNTIME, image=IMAGE))
        wrapper = top / "runtime" / RUNTIME.name
        wrapper.parent.mkdir()
        # The last word of a create is the id: what this podman made is known by name afterwards.
        wrapper.write_text(
            f'#!/bin/sh\necho "$*" >> {top}/calls\nexec {RUNTIME} --root {top}/state "$@"\n'
        )
        wrapper.chmod(0o755)
        self.environment = os.environ | {
            "CONTAINERS_CONF": f"{top}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{top}/storage.conf",
        }

    def command(self, *arguments: str) -> list[str]:
        return ["podman", "--tmpdir", f"{self.top}/tmp", *arguments]

    def call(self, *arguments: str, code: int = 0, **options) -> subprocess.CompletedProcess:
        command = self.command(*arguments)
        # conmon drops a file named `oom` into the current directory.
        options = {"stdin": subprocess.DEVNULL, "cwd": self.top} | options
        done = subprocess.run(
            command,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            **options,
        )
        assert done.returncode == code, (
            f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        if arguments[:2] == ("pod", "create"):
            self.pods.add(done.stdout.strip())
        return done

    def ids(self) -> set[str]:
        """The ids of all containers and pods that were made here."""
        calls = (self.top / "calls").read_text().splitlines()
        return self.pods | {call.split()[-1] for call in calls if " create " in f" {call} "}

    def out(self, *arguments: str, **options) -> str:
        return self.call(*arguments, **options).stdout.strip()

    def inspect(self, name: str, field: str) -> str:
        return self.out("inspect", "--format", "{{" + field + "}}", name)

    def until(self, name: str, field: str, value: str) -> None:
        """Wait until podman reports the value; podman has no fd to wait on."""
        deadline = time.monotonic() + TIMEOUT_S
        while (found := self.inspect(name, field)) != value:
            assert time.monotonic() < deadline, f"{name} {field}: {found}, not {value}"
            time.sleep(0.05)

    def log(self, name: str, text: str) -> None:
        """Follow the log until the text is in it."""
        command = self.command("logs", "-f", name)
        with subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE) as follower:
            try:
                read_until(follower.stdout.fileno(), text.encode())
            finally:
                follower.kill()

    def terminal(self, *arguments: str, rows: int = 24, columns: int = 80) -> Terminal:
        return Terminal(self.command(*arguments), self.environment, rows, columns)
