"""Pods and containers as the kubelet makes them: containerd's CRI, in few words.

    pod = cri.pod("runc")
    container = pod.container("sh", "-c", "exit 3").start()
    container.wait() == 3

Source: k8s.io/cri-api, package runtime.v1.
"""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import cri_messages
from google.protobuf import json_format
from grpc_unary import Connection
from support import host

POD, CONTAINER, NODE, TARGET = range(4)  # NamespaceMode
RUNTIME_DEFAULT, UNCONFINED, LOCALHOST = range(3)  # SecurityProfile.ProfileType
CREATED, RUNNING, EXITED, UNKNOWN = range(4)  # ContainerState
READY, NOTREADY = range(2)  # PodSandboxState
NOT_FOUND = 5  # gRPC
WAIT_S = 20
LOG_LINE = re.compile(r"\S+ (stdout|stderr) [FP] (.*)")

# CRI's own default is one pid namespace for the pod; the kubelet's is one for each container.
KUBELET = {"security_context": {"namespace_options": {"pid": CONTAINER}}}

MESSAGES = cri_messages.classes(cri_messages.CRI)


class Cri:
    """One caller of the API; `clone` makes another, for calls at the same time."""

    def __init__(self, socket: str, cgroup_parent: str, logs: Path, image: str) -> None:
        self.socket, self.cgroup_parent, self.logs, self.image = socket, cgroup_parent, logs, image
        self.connection: Connection | None = None
        self.pods: list[Pod] = []

    def clone(self) -> "Cri":
        return Cri(self.socket, self.cgroup_parent, self.logs, self.image)

    def call(self, method: str, timeout_s: float = 60, **fields: object):
        """Call a method with a request made of these fields."""
        request = json_format.ParseDict(fields, MESSAGES[f"{method}Request"]())
        self.connection = self.connection or Connection(self.socket)
        service = "ImageService" if method.startswith("Image") else "RuntimeService"
        try:
            body = self.connection.call(
                f"{cri_messages.CRI}.{service}",
                method,
                request.SerializeToString(),
                timeout_s=timeout_s,
            )
        except OSError:
            self.close()
            raise
        return MESSAGES[f"{method}Response"].FromString(body)

    def close(self) -> None:
        if self.connection:
            self.connection.close()
        self.connection = None

    def pod(self, handler: str, **options: object) -> "Pod":
        """Run a pod. Its options are fields of PodSandboxConfig, `linux` of LinuxPodSandboxConfig."""
        name = f"pod-{os.urandom(4).hex()}"
        linux = {"cgroup_parent": self.cgroup_parent} | KUBELET
        config = {
            "metadata": {"name": name, "uid": name, "namespace": "tests"},
            "hostname": name,
            "log_directory": str(self.logs / name),
            "dns_config": {"servers": ["127.0.0.1"]},
            "linux": merge(linux, options.pop("linux", {})),
        } | options
        answer = self.call("RunPodSandbox", config=config, runtime_handler=handler)
        pod = Pod(self, answer.pod_sandbox_id, config)
        self.pods.append(pod)
        return pod

    def remove_all(self) -> None:
        """Remove every pod and container that containerd knows, whoever made it."""
        for item in self.call("ListPodSandbox").items:
            self.call("StopPodSandbox", pod_sandbox_id=item.id)
            self.call("RemovePodSandbox", pod_sandbox_id=item.id)
        self.pods.clear()


@dataclass
class Pod:
    cri: Cri
    id: str
    config: dict
    containers: list["Container"] = field(default_factory=list)

    def container(
        self, *args: str, name: str = "", attempt: int = 0, **options: object
    ) -> "Container":
        """Create a container. Its options are fields of ContainerConfig."""
        name = name or f"c{len(self.containers)}"
        config = {
            "metadata": {"name": name, "attempt": attempt},
            "image": {"image": self.cri.image},
            "args": list(args),
            "log_path": f"{name}.{attempt}.log",
            "linux": merge(KUBELET, options.pop("linux", {})),
        } | options
        answer = self.cri.call(
            "CreateContainer", pod_sandbox_id=self.id, config=config, sandbox_config=self.config
        )
        log = Path(self.config["log_directory"], str(config["log_path"]))
        container = Container(self.cri, answer.container_id, log)
        self.containers.append(container)
        return container

    def status(self):
        return self.cri.call("PodSandboxStatus", pod_sandbox_id=self.id).status

    @property
    def pid(self) -> int:
        """The pid of the pause process."""
        info = self.cri.call("PodSandboxStatus", pod_sandbox_id=self.id, verbose=True).info
        return json.loads(info["info"])["pid"]

    @property
    def shim_pid(self) -> int:
        return parent_of(self.pid)

    def stop(self) -> None:
        self.cri.call("StopPodSandbox", pod_sandbox_id=self.id)

    def remove(self) -> None:
        self.stop()
        self.cri.call("RemovePodSandbox", pod_sandbox_id=self.id)
        self.cri.pods.remove(self)


@dataclass
class Container:
    cri: Cri
    id: str
    log: Path

    def call(self, method: str, **fields: object):
        return self.cri.call(method, container_id=self.id, **fields)

    def start(self) -> "Container":
        self.call("StartContainer")
        return self

    def status(self):
        return self.call("ContainerStatus").status

    @property
    def info(self) -> dict:
        return json.loads(self.call("ContainerStatus", verbose=True).info["info"])

    @property
    def pid(self) -> int:
        return self.info["pid"]

    def until(self, state: int) -> None:
        """Wait for a state; CRI offers nothing to wait on."""
        host.eventually(lambda: self.status().state == state, WAIT_S)

    def wait(self) -> int:
        """Give the exit code, once there is one."""
        self.until(EXITED)
        return self.status().exit_code

    def exec(self, *command: str, timeout: int = 20):
        return self.call("ExecSync", cmd=list(command), timeout=timeout)

    def out(self, *command: str) -> str:
        """Give what a command that succeeds prints."""
        done = self.exec(*command)
        assert done.exit_code == 0, done
        return done.stdout.decode()

    def stop(self, timeout: int = 0) -> None:
        self.call("StopContainer", timeout=timeout)

    def remove(self) -> None:
        self.call("RemoveContainer")

    def lines(self, stream: str = "") -> list[str]:
        """Give the lines of the log, of one stream or of both."""
        if not self.log.exists():
            return []
        found = [LOG_LINE.fullmatch(line) for line in self.log.read_text().splitlines()]
        assert all(found), self.log.read_text()
        return [line[2] for line in found if line and stream in (line[1], "")]

    def until_logged(self, text: str) -> None:
        host.eventually(lambda: text in self.lines(), WAIT_S)


def merge(defaults: dict, wanted: dict) -> dict:
    """Give the defaults overlaid, at every depth."""
    return defaults | {
        key: merge(defaults[key], value) if isinstance(defaults.get(key), dict) else value
        for key, value in wanted.items()
    }


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
