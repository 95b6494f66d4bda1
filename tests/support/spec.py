"""A fresh config.json as a dict: our own literal, equal in content to what `runc spec` writes, but not to a terminal.

The runtime under test never writes the spec it is tested with.
"""

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CAPS = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
MASKED = [
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
]  # fmt: skip
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
# The 14 capabilities that docker gives: what tests take that need a root with hands.
DOCKER_CAPS = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
    "CAP_AUDIT_WRITE",
]  # fmt: skip


def fresh_spec(*args: str) -> dict:
    """Give a new spec that runs `args`; every call gives new objects all the way down."""
    return {
        "ociVersion": "1.0.2-dev",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(args) or ["true"],
            "env": [PATH, "TERM=xterm"],
            "cwd": "/",
            "capabilities": {k: list(CAPS) for k in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            },
            {
                "destination": "/dev/shm",
                "type": "tmpfs",
                "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            },
            {
                "destination": "/dev/mqueue",
                "type": "mqueue",
                "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"],
            },
            {
                "destination": "/sys",
                "type": "sysfs",
                "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"],
            },
            {
                "destination": "/sys/fs/cgroup",
                "type": "cgroup",
                "source": "cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
            },
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount")],
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READONLY),
        },
    }


def shell(script: str) -> dict:
    """Give a spec that runs a script with busybox sh."""
    return fresh_spec("sh", "-c", script)


def add_mount(spec: dict, destination: str, kind: str, source: object = None, *options: str) -> dict:
    """Append a mount and return it."""
    mount = {"destination": destination, "type": kind, "source": str(source or kind), "options": list(options)}
    spec["mounts"].append(mount)
    return mount


def drop_mount(spec: dict, *destinations: str) -> None:
    spec["mounts"] = [m for m in spec["mounts"] if m["destination"] not in destinations]


def set_caps(spec: dict, *names: str, sets: tuple[str, ...] = ("bounding", "effective", "permitted")) -> None:
    for name in sets:
        spec["process"]["capabilities"][name] = list(names)


def namespace(spec: dict, kind: str, path: object = None) -> dict:
    """Add a namespace, or replace the one of that type."""
    drop_namespace(spec, kind)
    row = {"type": kind} if path is None else {"type": kind, "path": str(path)}
    spec["linux"]["namespaces"].append(row)
    return row


def drop_namespace(spec: dict, kind: str) -> None:
    spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != kind]


def user_namespace(spec: dict, host: int = 100000, size: int = 65536) -> None:
    """Add a user namespace that maps 0..size-1 to host..."""
    namespace(spec, "user")
    for key in ("uidMappings", "gidMappings"):
        spec["linux"][key] = [{"containerID": 0, "hostID": host, "size": size}]
