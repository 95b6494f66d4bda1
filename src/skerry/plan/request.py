"""What a recipe must know besides the spec: facts of the host, looked up before the plan is built.

Runs in: create, exec (hot); pure.   Imports: nothing.
Source:  native/facts.py fills it from the host; tests fill it by hand.
Never:   holds an open fd or a policy.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Request:
    """The facts of one start.

    machine          `x86_64` or `aarch64`
    id               the container's id
    bundle           absolute path of the bundle
    spec             the spec, validated; `process` the process to start (exec: not the spec's)
    rootfs_path      absolute; ignored where `layers` are given
    layers           [] or (lower directories, topmost first; then the scratch directory)
    preserve         number of fds from 3 up that go to the program
    extra_env        strings added to the program's environment (LISTEN_FDS)
    console          the plan opens a terminal in the container and hands its master out
    stdio_owner      those of fds 0-2 that go to the program's user (decisions.md 23)
    sources          mount index -> (absolute host path, is a directory), for every bind
    cgroup_version   1, 2, or 0 when there is no cgroup
    cgroup_mounts    (name below the mount, host path, controllers option) for each hierarchy of v1
    cgroup_unified   host path of the container's cgroup in the v2 tree, "" without one
    device_program   eBPF instructions for v2, or b""
    seccomp          None, or an object with .flags .filter .listener
    last_cap         number of the kernel's last capability
    limits           resource number -> (soft, hard) of ourselves
    join             exec: CLONE_* mask of the container's namespaces that are not ours
    join_user        exec: that mask has the user namespace
    full_mounts      mount points of whole proc and sysfs mounts of the host, for no_pivot
    no_pivot         move the root instead of pivoting
    new_keyring      join a session keyring of its own
    kcore            the host has /proc/kcore
    hook_states      createContainer, startContainer -> the state they read (plan/hooks.py `template`)
    pointer          where `process` stands in its document
    """

    __slots__ = (
        "machine", "id", "bundle", "spec", "process", "rootfs_path", "layers", "preserve", "extra_env",
        "console", "stdio_owner", "sources", "cgroup_version", "cgroup_mounts", "cgroup_unified", "device_program",
        "seccomp", "last_cap", "limits", "join", "full_mounts", "no_pivot",
        "new_keyring", "kcore", "pointer", "join_user", "hook_states",
    )  # fmt: skip

    def __init__(
        self, machine: str, id: str, spec: "dict[str, Any]", process: "dict[str, Any] | None"
    ) -> None:
        self.machine = machine
        self.id = id
        self.bundle = ""
        self.spec = spec
        self.process = process
        self.pointer = "/process"
        self.rootfs_path = ""
        self.layers: list[str] = []
        self.preserve = 0
        self.extra_env: list[str] = []
        self.console = False
        self.stdio_owner: tuple[int, ...] = ()
        self.sources: dict[int, tuple[str, bool]] = {}
        self.cgroup_version = 0
        self.cgroup_mounts: list[tuple[str, str, str]] = []
        self.cgroup_unified = ""
        self.device_program = b""
        self.seccomp: Any = None
        self.last_cap = 40
        self.limits: dict[int, tuple[int, int]] = {}
        self.join = 0
        self.join_user = False
        self.hook_states: dict[str, bytes] = {}
        self.full_mounts: list[str] = []
        self.no_pivot = False
        self.new_keyring = True
        self.kcore = False

    # The fds a plan starts with, after the preserved ones. Their numbers are fixed: whoever spawns
    # skerry-init puts them there.

    @property
    def plan_fd(self) -> int:
        return 3 + self.preserve

    @property
    def conversation_fd(self) -> int:
        return 4 + self.preserve

    @property
    def gate_fd(self) -> int:
        """create: the gate's socket; exec: the pidfd of the container's init."""
        return 5 + self.preserve

    @property
    def cgroup_fd(self) -> int:
        """v2: the directory of the cgroup to be born in; last, and absent on v1."""
        return 6 + self.preserve

    @property
    def linux(self) -> "dict[str, Any]":
        return self.spec.get("linux") or {}

    def namespace(self, kind: str) -> "str | None":
        """The path of the namespace of this type, "" for a new one, None if the spec has none."""
        for entry in self.linux.get("namespaces") or ():
            if entry["type"] == kind:
                return entry.get("path") or ""
        return None
