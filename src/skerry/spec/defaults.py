"""The spec that `skerry spec` writes: that of `runc spec`, without ambient capabilities.

Runs in: spec.   Imports: posix.
Source:  the output of runc 1.1.5; config.md for each property.
Never:   looks at the host, but for the caller's ids without root.

Ambient capabilities would reach every program that a user other than root runs; a default gives
none (CVE-2022-24769 and its kin). The document declares the version whose rules we keep, though it
uses nothing newer than 1.0: it is judged by its reader's rules, and ours are those.
"""

import posix

from skerry.spec import OCI_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
)  # fmt: skip
_READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_TTY_GROUP = "gid=5"
_VM_VCPUS, _VM_MEMORY_BYTES = 2, 1024 * 1024 * 1024  # docs/lifecycle.md 89

# destination, type, source, options
_MOUNTS = (
    ("/proc", "proc", "proc", ""),
    ("/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755 size=65536k"),
    ("/dev/pts", "devpts", "devpts",
     f"nosuid noexec newinstance ptmxmode=0666 mode=0620 {_TTY_GROUP}"),
    ("/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777 size=65536k"),
    ("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
    ("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
    ("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid noexec nodev relatime ro"),
)  # fmt: skip
# Without root a sysfs needs a network namespace of one's own, so the host's is bound.
_ROOTLESS_SYS = ("/sys", "none", "/sys", "rbind nosuid noexec nodev ro")


def default_spec(*, rootless: bool = False, vm: bool = False) -> "dict[str, Any]":
    """A spec that runs `sh` in ./rootfs; `rootless` as an unprivileged user, `vm` in a VM of its own."""
    section = {"vm": {"hwConfig": {"vcpus": _VM_VCPUS, "memory": _VM_MEMORY_BYTES}}} if vm else {}
    return {
        "ociVersion": OCI_VERSION,
        "process": _process(),
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "skerry",
        "mounts": [_mount(row, rootless=rootless) for row in _MOUNTS],
        "linux": _linux(rootless=rootless),
        **section,
    }


def _process() -> "dict[str, Any]":
    return {
        "terminal": True,
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": [f"PATH={_PATH}", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {
            kind: list(_CAPABILITIES) for kind in ("bounding", "effective", "permitted")
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    }


def _mount(row: "tuple[str, str, str, str]", *, rootless: bool) -> "dict[str, Any]":
    destination, kind, source, words = _ROOTLESS_SYS if rootless and row[0] == "/sys" else row
    mount: dict[str, Any] = {"destination": destination, "type": kind, "source": source}
    # A user namespace of one id has no tty group.
    options = [word for word in words.split() if not (rootless and word == _TTY_GROUP)]
    if options:
        mount["options"] = options
    return mount


def _linux(*, rootless: bool) -> "dict[str, Any]":
    kinds = ["pid", "network", "ipc", "uts", "mount"]
    linux: dict[str, Any] = {}
    if rootless:
        kinds.remove("network")
        kinds.append("user")
        for word, host in (("uidMappings", posix.geteuid()), ("gidMappings", posix.getegid())):
            linux[word] = [{"containerID": 0, "hostID": host, "size": 1}]
    else:
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    linux["namespaces"] = [{"type": kind} for kind in kinds]
    linux["maskedPaths"] = list(_MASKED)
    linux["readonlyPaths"] = list(_READONLY)
    return linux
