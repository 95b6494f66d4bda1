"""The features document: what this build can do on this host, read from the tables that decide it.

Runs in: features.   Imports: posix, the tables of spec and linux.
Source:  runtime-spec 1.3.0 features.md, features-linux.md.
Never:   lists what validation refuses.
"""

import posix

from skerry import paths
from skerry.errors import EngineError
from skerry.linux import abi, seccomp
from skerry.linux.caps import CAPS
from skerry.spec import OCI_VERSION, OCI_VERSION_LOWEST
from skerry.spec.annotations import ISOLATIONS, OPERATOR_ONLY, VM_SETTINGS
from skerry.spec.hooks import HOOKS
from skerry.spec.linux import NAMESPACES
from skerry.spec.mount_options import known_options
from skerry.spec.unsupported import PROPERTIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Types whose file below /proc/self/ns has another name
_NAMESPACE_FILES = {"mount": "mnt", "network": "net"}
# flag -> the first kernel that takes it, where that is newer than the oldest we run on
_FLAG_SINCE = {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": (5, 19)}


def features() -> "dict[str, Any]":
    """Build the document, in the order of the specification."""
    annotations = {"run.skerry.version": paths.version(), "run.skerry.isolations": ",".join(ISOLATIONS)}
    section = _seccomp(annotations)
    refused = PROPERTIES["linux"]
    return {
        "ociVersionMin": OCI_VERSION_LOWEST,
        "ociVersionMax": OCI_VERSION,
        "hooks": list(HOOKS),
        "mountOptions": known_options(),
        "linux": {
            "namespaces": _namespaces(),
            "capabilities": list(CAPS),
            "cgroup": {
                "v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": True,
            },
            "seccomp": section,
            "apparmor": {"enabled": True},
            "selinux": {"enabled": "mountLabel" not in refused},
            "intelRdt": {"enabled": "intelRdt" not in refused},
            "memoryPolicy": {"modes": sorted(abi.MPOL_MODES), "flags": sorted(abi.MPOL_FLAGS)},
            "mountExtensions": {"idmap": {"enabled": "uidMappings" not in PROPERTIES["mount"]}},
            "netDevices": {"enabled": "netDevices" not in refused},
        },
        "annotations": annotations,
        "potentiallyUnsafeConfigAnnotations": [*OPERATOR_ONLY, *VM_SETTINGS],
    }  # fmt: skip


def _namespaces() -> "list[str]":
    here = posix.listdir("/proc/self/ns")
    return [kind for kind in NAMESPACES if _NAMESPACE_FILES.get(kind, kind) in here]


def _seccomp(annotations: "dict[str, str]") -> "dict[str, Any]":
    try:
        version = seccomp.version()
        archs = seccomp.supported_architectures()
    except EngineError:
        return {"enabled": False}
    annotations["io.github.seccomp.libseccomp.version"] = ".".join(map(str, version))
    kernel = _kernel()
    return {
        "enabled": True,
        "actions": sorted(seccomp.ACTIONS),
        "operators": sorted(seccomp.OPERATORS),
        "archs": sorted(archs),
        "knownFlags": sorted(seccomp.FLAGS),
        "supportedFlags": [
            flag for flag in sorted(seccomp.FLAGS) if kernel >= _FLAG_SINCE.get(flag, (0, 0))
        ],
    }


def _kernel() -> "tuple[int, int]":
    major, minor = posix.uname().release.partition("-")[0].split(".")[:2]
    return int(major), int(minor)
