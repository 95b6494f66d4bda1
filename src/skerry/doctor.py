"""What this host can do: a table of checks, each with its remedy.

Runs in: doctor.   Imports: posix; errors, linux, native, vm, late where a check needs them.
Source:  docs/install.md "What the host needs"; docs/vm.md.
Never:   changes the host: what is tried is tried in a namespace of its own, and gone afterwards.

A check looks, and answers with what it found; an Error says what is wrong. What is *needed* decides whether an
isolation works; what is not makes it slower, or takes one feature away.
"""

import posix

from skerry import paths
from skerry.errors import Error
from skerry.vm import needs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PROCESS, VM = "process", "vm"
ISOLATIONS = (PROCESS, VM)
BOTH = ISOLATIONS

_NAMESPACES = ("mnt", "pid", "net", "ipc", "uts", "cgroup", "user", "time")
_NEEDED_NAMESPACES = ("mnt", "pid", "net", "ipc", "uts")
_NEEDED_CAPS = (
    "CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_MKNOD",
    "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
)  # fmt: skip
_USEFUL_CONTROLLERS = ("memory", "cpu", "pids", "cpuset")


class Check:
    """One row. `look` answers with words for what it found, or raises an Error."""

    __slots__ = ("isolations", "look", "name", "needed", "remedy")

    def __init__(
        self,
        name: str,
        isolations: "tuple[str, ...]",
        look: "Callable[[], str]",
        *,
        remedy: str,
        needed: bool = True,
    ) -> None:
        self.name, self.isolations, self.look = name, isolations, look
        self.remedy, self.needed = remedy, needed


class Finding:
    """What came of a check."""

    __slots__ = ("check", "ok", "words")

    def __init__(self, check: Check, *, ok: bool, words: str) -> None:
        self.check, self.ok, self.words = check, ok, words

    def to_json(self) -> "dict[str, Any]":
        check = self.check
        return {
            "check": check.name,
            "isolations": list(check.isolations),
            "needed": check.needed,
            "ok": self.ok,
            "found": self.words,
            "remedy": "" if self.ok else check.remedy,
        }


def examine(isolations: "tuple[str, ...]" = ISOLATIONS) -> "list[Finding]":
    """Make every check that these isolations want."""
    return [_examine(check) for check in CHECKS if set(check.isolations) & set(isolations)]


def _examine(check: Check) -> Finding:
    try:
        return Finding(check, ok=True, words=check.look())
    except Error as error:
        return Finding(check, ok=False, words=str(error))
    except OSError as error:
        return Finding(check, ok=False, words=posix.strerror(error.errno or 0).lower())


def works(findings: "list[Finding]", isolation: str) -> bool:
    """Whether everything that this isolation needs is there."""
    return all(
        found.ok or not found.check.needed
        for found in findings
        if isolation in found.check.isolations
    )


# what every start needs


def _root() -> str:
    if posix.geteuid():
        raise Error(f"this is user {posix.geteuid()}")
    return "root"


def _kernel() -> str:
    from skerry.native import facts

    facts.machine()
    system = posix.uname()
    return f"Linux {system.release}, {system.machine}"


def _init() -> str:
    """It is tried, in a network namespace that ends with it: the way to run from memory may be closed."""
    from skerry.native.visit import visit

    if not posix.access(paths.init_path(), posix.X_OK):
        raise Error(f"{paths.init_path()} is not there")
    socket, _ = visit(-1)
    posix.close(socket)
    return "runs"


def _cgroups() -> str:
    from skerry.native.cgroup.tree import read_layout

    layout = read_layout()
    return f"{layout.kind}: {', '.join(sorted(layout.controllers))}"


def _controllers() -> str:
    from skerry.native.cgroup.tree import read_layout

    missing = [name for name in _USEFUL_CONTROLLERS if name not in read_layout().controllers]
    if missing:
        raise Error(f"no {', '.join(missing)}")
    return ", ".join(_USEFUL_CONTROLLERS)


def _run_directory() -> str:
    path = paths.RUN if posix.access(paths.RUN, posix.F_OK) else paths.RUN.rpartition("/")[0]
    if not posix.access(path, posix.W_OK | posix.X_OK):
        raise Error(f"{path} cannot be written")
    return path


# containers by namespaces


def _namespaces() -> str:
    here = posix.listdir("/proc/self/ns")
    missing = [name for name in _NEEDED_NAMESPACES if name not in here]
    if missing:
        raise Error(f"no {', '.join(missing)}")
    return ", ".join(name for name in _NAMESPACES if name in here)


def _capabilities() -> str:
    from skerry.linux import caps

    granted = caps.bounding()
    missing = [name for name in _NEEDED_CAPS if not granted >> caps.CAPS[name] & 1]
    if missing:
        raise Error(f"no {', '.join(missing)}")
    return "all that are needed"


def _resources() -> str:
    from skerry.linux import caps

    if not caps.bounding() >> caps.CAPS["CAP_SYS_RESOURCE"] & 1:
        raise Error("no CAP_SYS_RESOURCE: limits cannot be raised, oom_score_adj not lowered")
    return "limits can be raised"


def _overlay() -> str:
    with open("/proc/filesystems") as file:
        if any(line.split()[-1:] == ["overlay"] for line in file):
            return "known to the kernel"
    raise Error("not known to the kernel yet")


def _user_namespaces() -> str:
    with open("/proc/sys/user/max_user_namespaces") as file:
        most = int(file.read())
    if not most:
        raise Error("none may be made")
    return f"{most} at most"


def _seccomp() -> str:
    from skerry.linux import seccomp

    posix.stat("/proc/sys/kernel/seccomp/actions_avail")
    return f"libseccomp {'.'.join(map(str, seccomp.version()))}"


CHECKS = (
    Check("user", BOTH, _root, remedy="run skerry as root"),
    Check("kernel", BOTH, _kernel, remedy="Linux 5.14 or newer on x86_64 or aarch64"),
    Check(
        "skerry-init",
        BOTH,
        _init,
        remedy="run make; allow executable memory (sysctl vm.memfd_noexec=0 or 1)",
    ),
    Check("state directory", BOTH, _run_directory, remedy=f"make {paths.RUN} writable for root"),
    Check("cgroups", BOTH, _cgroups, remedy="mount cgroup2 on /sys/fs/cgroup"),
    Check(
        "controllers",
        BOTH,
        _controllers,
        remedy="enable them in the kernel (CONFIG_MEMCG, CONFIG_CGROUP_PIDS, ...) and on its command line",
        needed=False,
    ),
    Check(
        "namespaces",
        (PROCESS,),
        _namespaces,
        remedy="a kernel with CONFIG_PID_NS, CONFIG_NET_NS, CONFIG_IPC_NS, CONFIG_UTS_NS",
    ),
    Check("capabilities", BOTH, _capabilities, remedy="start skerry with all capabilities of root"),
    Check("resources", BOTH, _resources, remedy="start skerry with CAP_SYS_RESOURCE", needed=False),
    Check(
        "overlay", (PROCESS,), _overlay, remedy="modprobe overlay (CONFIG_OVERLAY_FS)", needed=False
    ),
    Check(
        "user namespaces",
        (PROCESS,),
        _user_namespaces,
        remedy="sysctl user.max_user_namespaces=10000 (CONFIG_USER_NS)",
        needed=False,
    ),
    Check(
        "seccomp",
        (PROCESS,),
        _seccomp,
        remedy="install libseccomp2; a kernel with CONFIG_SECCOMP_FILTER",
        needed=False,
    ),
    Check(
        "configuration",
        (VM,),
        needs.config,
        remedy="chown root: and chmod go-w the file; mend its JSON",
    ),
    Check("QEMU", (VM,), needs.qemu, remedy="install qemu-system-x86 7.0 or newer"),
    Check(
        "KVM",
        (VM,),
        needs.kvm,
        remedy="modprobe kvm_intel or kvm_amd; enable virtualization in the firmware, or nesting in the outer host",
        needed=False,
    ),
    Check(
        "guest image",
        (VM,),
        needs.image,
        remedy="install linux-image-cloud-amd64, or see skerry image",
    ),
    Check("mkfs.erofs", (VM,), needs.erofs, remedy="install erofs-utils"),
    Check("mkfs.ext4", (VM,), needs.ext4, remedy="install e2fsprogs"),
    Check(
        "disks",
        (VM,),
        needs.disks_directory,
        remedy="a file system with O_TMPFILE and room for what containers write",
    ),
    Check(
        "virtiofsd",
        (VM,),
        needs.virtiofsd,
        remedy="install virtiofsd (qemu-system-common on Debian 12); without it no host directories",
        needed=False,
    ),
    Check(
        "taps",
        (VM,),
        needs.taps,
        remedy="modprobe tun (CONFIG_TUN); without it no network",
        needed=False,
    ),
    Check(
        "redirection",
        (VM,),
        needs.redirects,
        remedy="modprobe sch_ingress cls_u32 act_mirred; without it no network",
        needed=False,
    ),
)
