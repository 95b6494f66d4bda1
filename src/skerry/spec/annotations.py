"""What annotations say to skerry: pods, isolation, and our own names.

Runs in: create, run (hot); pure.   Imports: jsonio, paths.
Source:  lifecycle 18-21, 32, 36; the annotations of containerd's CRI, CRI-O and dockershim.
Never:   lets a tenant's annotation choose a path, a container or a VM's setting.
"""

from skerry.errors import SpecError, UsageError
from skerry.jsonio import escape, loads
from skerry.paths import below

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ISOLATION, NETWORK_FROM = "run.skerry.isolation", "run.skerry.network-from"
LAYERS = "run.skerry.layers"
_OURS = "run.skerry."
# What names a path or another container: not for a pod's annotations, which are the tenant's.
OPERATOR_ONLY = (LAYERS, NETWORK_FROM)
# name -> setting of the VM, kind of its value (vm/settings.py)
VM_SETTINGS = {
    "run.skerry.vm.memory": ("memory_mib", "number"),
    "run.skerry.vm.vcpus": ("vcpus", "number"),
    "run.skerry.vm.template": ("template", "boolean"),
    "run.skerry.vm.profile": ("profile", "profile"),
    "run.skerry.vm.kernel": ("kernel", "path"),
    "run.skerry.vm.initrd": ("initrd", "path"),
    "run.skerry.vm.hypervisor": ("hypervisor", "path"),
}
_KNOWN = (ISOLATION, *OPERATOR_ONLY, *VM_SETTINGS)

# type, id, and what the family calls a sandbox; the first family with a type decides
FAMILIES = (
    ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id", "sandbox"),
    ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID", "sandbox"),
    ("io.kubernetes.docker.type", "io.kubernetes.sandbox.id", "podsandbox"),
)
ISOLATIONS = ("process", "vm")


def sandbox(annotations: "dict[str, str]") -> "tuple[str, str]":
    """(kind, sandbox id) of a container; kind is `sandbox`, `container` or "" for standalone."""
    for type_name, id_name, sandbox_word in FAMILIES:
        kind = annotations.get(type_name)
        if kind:
            sandbox_id = annotations.get(id_name, "")
            if kind in ("sandbox", sandbox_word):
                return ("sandbox", sandbox_id)
            return ("container", sandbox_id) if kind == "container" and sandbox_id else ("", "")
    return ("", "")


def isolation(annotations: "dict[str, str]", spec: "dict[str, Any]", flag: str) -> str:
    """`process` or `vm`, from the command line's flag, the spec's `vm` section, the annotation.

    Errors  UsageError for another value of the flag, SpecError for one of the annotation.
    """
    if flag:
        if flag not in ISOLATIONS:
            raise UsageError(f'invalid isolation "{flag}"')
        return flag
    wanted = annotations.get(ISOLATION, "process")
    if wanted not in ISOLATIONS:
        raise SpecError(f"/annotations/{ISOLATION}", f'invalid isolation "{wanted}"')
    return "vm" if "vm" in spec else wanted


def layers(annotations: "dict[str, str]") -> "list[str]":
    """The layers that replace `root.path`, topmost first, the scratch last; empty without them.

    Errors  SpecError unless it is a JSON list of at least two paths.
    """
    text = annotations.get(LAYERS)
    if text is None:
        return []
    pointer = f"/annotations/{LAYERS}"
    try:
        value = loads(text.encode())
    except SpecError as error:
        raise SpecError(pointer, error.rule) from None
    paths = value if isinstance(value, list) else []
    if len(paths) < 2 or not all(isinstance(path, str) and path for path in paths):
        raise SpecError(pointer, "is not a JSON list of at least one layer and the scratch")
    return paths


def layer_paths(annotations: "dict[str, str]", bundle: str) -> "list[str]":
    """The same, absolute, each judged by itself."""
    return [below(bundle, path) for path in layers(annotations)]


def without_placing(annotations: "dict[str, str]") -> "dict[str, str]":
    """What is left without those that say where a container goes: they were obeyed already."""
    placing = {name for names in FAMILIES for name in names[:2]}
    return {
        name: value
        for name, value in annotations.items()
        if name not in placing and not name.startswith(_OURS)
    }


def is_tenant(annotations: "dict[str, str]") -> bool:
    """Whether they come with a pod, and so from whoever wrote the pod (lifecycle 32)."""
    return any(annotations.get(type_name) for type_name, _, _ in FAMILIES)


def check_ours(annotations: "dict[str, str]") -> None:
    """Refuse an annotation of ours that is unknown, or that a tenant may not give.

    Errors  SpecError at the annotation.
    """
    tenant = is_tenant(annotations)
    for name in annotations:
        if not name.startswith(_OURS):
            continue
        if name not in _KNOWN:
            raise SpecError(f"/annotations/{escape(name)}", "this annotation is not known")
        if tenant and name in OPERATOR_ONLY:
            rule = "not permitted in a pod: the administrator has not listed it"
            raise SpecError(f"/annotations/{name}", rule)
