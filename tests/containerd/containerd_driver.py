"""A containerd kept to itself: own root, state, sockets, mounts and network, removed at the end.

The settings that are easy to get wrong: `restrict_oom_score_adj`, without which every pod wants a
score that needs CAP_SYS_RESOURCE; a pause image and a search path for CNI that exist; a
configuration of version 2. Handlers come from the caller, skerry's from docs/containerd.md.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import oci_image
from cri_client import Cri
from grpc_unary import RpcError
from support import host
from support.rootfs import build_template

TOP = Path(__file__).resolve().parents[2]
IMAGE = "localhost/busybox:latest"
PAUSE = "localhost/pause:latest"
TIMEOUT_S = 60
READY_S = 20

CONFIG = """\
version = 2
root = "{top}/root"
state = "{top}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{top}/containerd.sock"
[debug]
  level = "{level}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_hugetlb_controller = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{top}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun.options]
  BinaryName = "/usr/bin/crun"
"""

NETWORK = {
    "cniVersion": "0.4.0",
    "name": "tests",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "tests0",
            "isGateway": True,
            "ipMasq": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.213.0.0/16"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


class Containerd:
    """The daemon; `cri` is its CRI, `ctr` calls its command line in its namespaces."""

    def __init__(
        self, top: Path, *, handlers: str = "", path: str = "", cgroups: str = "host"
    ) -> None:
        self.top, self.handlers, self.path, self.cgroups = top, handlers, path, cgroups
        self.token = f"ctrd{os.urandom(3).hex()}"
        self.socket = f"{top}/containerd.sock"
        self.pid = 0
        self.nursery = self.enter()
        self.cri = Cri(self.socket, f"/{self.token}", top / "logs", IMAGE)
        (top / "cni").mkdir()
        (top / "cni/10-tests.conflist").write_text(json.dumps(NETWORK))

    def enter(self) -> subprocess.Popen:
        program = [sys.executable, "-B", str(Path(__file__).with_name("nursery.py"))]
        nursery = subprocess.Popen(
            [
                "unshare",
                "--mount",
                "--net",
                "--propagation",
                "private",
                *program,
                self.top,
                self.cgroups,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if nursery.stdout.readline() != "ready\n":
            raise RuntimeError(f"the nursery ended with {nursery.wait()}")
        return nursery

    def start(self, level: str = "info") -> None:
        """Start the daemon, or start it again, and wait until CRI answers."""
        text = CONFIG.format(top=self.top, level=level, pause=PAUSE) + self.handlers
        (self.top / "config.toml").write_text(text)
        environment = dict(os.environ)
        environment["PATH"] = f"{self.path}:{os.environ['PATH']}".lstrip(":")
        self.pid = self.spawn(
            ["containerd", "--config", f"{self.top}/config.toml"], environment, "containerd.log"
        )
        try:
            host.eventually(self.answers, READY_S)
        except TimeoutError:
            raise RuntimeError(f"containerd does not answer:\n{self.log()[-4000:]}") from None

    def answers(self) -> bool:
        if not os.path.exists(f"/proc/{self.pid}"):
            raise RuntimeError(f"containerd ended:\n{self.log()[-4000:]}")
        try:
            conditions = self.cri.call("Status", timeout_s=2).status.conditions
        except (OSError, RpcError):
            self.cri.close()
            return False
        return len(conditions) == 2 and all(condition.status for condition in conditions)

    def spawn(self, argv: list[str], environment: dict[str, str], output: str) -> int:
        """Start a program in the daemon's namespaces, as a child of the nursery."""
        request = {"argv": argv, "env": environment, "output": f"{self.top}/{output}"}
        print(json.dumps(request), file=self.nursery.stdin, flush=True)
        return json.loads(self.nursery.stdout.readline())["pid"]

    def kill(self, number: int) -> None:
        """End the daemon by a signal; what it started lives on."""
        os.kill(self.pid, number)
        host.wait_exit(self.pid, READY_S)
        self.cri.close()

    def log(self) -> str:
        return (self.top / "containerd.log").read_text()

    def load_images(self) -> None:
        """Import busybox and a pause image for CRI and for the tests' own containerd namespace."""
        root = build_template(self.top)
        for name, command in ((IMAGE, ["sh"]), (PAUSE, ["sleep", "inf"])):
            archive = self.top / "image.tar"
            oci_image.write(archive, root, name, command=command, machine=platform.machine())
            for namespace in ("k8s.io", self.token):
                self.ctr("images", "import", str(archive), namespace=namespace)
            host.eventually(lambda name=name: self.has_image(name), READY_S)

    def has_image(self, name: str) -> bool:
        return self.cri.call("ImageStatus", image={"image": name}).image.id != ""

    def command(self, *words: str, namespace: str = "") -> list[str]:
        """Give the command line of a `ctr` call."""
        ctr = ["ctr", "--address", self.socket, "--namespace", namespace or self.token, *words]
        return self.inside(*ctr)

    def inside(self, *words: str) -> list[str]:
        """Give a command line that runs in the daemon's mount and network namespaces."""
        where = f"/proc/{self.nursery.pid}/ns"
        return ["nsenter", f"--mount={where}/mnt", f"--net={where}/net", *words]

    def ctr(
        self, *words: str, namespace: str = "", code: int = 0, **how
    ) -> subprocess.CompletedProcess:
        how = {"stdin": subprocess.DEVNULL, "text": True, "timeout": TIMEOUT_S} | how
        done = subprocess.run(self.command(*words, namespace=namespace), capture_output=True, **how)
        assert code in (None, done.returncode), (
            f"ctr {words}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    def run(self, *words: str) -> str:
        """Give what a program prints that runs in the daemon's namespaces."""
        return subprocess.run(
            self.inside(*words), check=True, capture_output=True, text=True
        ).stdout

    def see(self, path: str) -> Path:
        """Give a path of the daemon's world as one of ours."""
        return Path(f"/proc/{self.nursery.pid}/root", path.lstrip("/"))

    def close(self) -> None:
        self.cri.close()
        self.nursery.stdin.close()
        self.nursery.wait()
        self.nursery.stdout.close()
        remove_parents(self.token)


def remove_parents(token: str) -> None:
    """Remove the cgroup that held those of the session; runtimes leave parents to their maker."""
    for mount in set(host.cgroup_mounts().values()):
        if (mount / token).is_dir():
            (mount / token).rmdir()
