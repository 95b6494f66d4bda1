"""The spec as a whole: what it must have, and what follows from one part for another.

Runs in: create, run (hot); pure.   Imports: the other files of spec, some late.
Source:  runtime-spec 1.3.0 config.md, config-schema.json; for what they leave open, the kernel.
Never:   changes the spec; asks the host, but for one sysctl question (spec/sysctl.py).

Each part has its file with a table of properties; this one holds them together. What passes here
the rest of skerry may rely on: types are right, strings hold no NUL, numbers are in range, names
are known.
"""

from skerry.errors import SpecError
from skerry.spec.annotations import check_ours, isolation, layers, sandbox
from skerry.spec.fields import boolean, mapping, members, obj, path, record, text, wrong
from skerry.spec.linux import check_linux, is_mapped
from skerry.spec.mounts import check_mounts
from skerry.spec.process import check_process
from skerry.spec.resources import check_resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["check_process", "check_resources", "check_spec"]

_MAJOR = "1"
_NAME_LIMIT_BYTES = 64  # __NEW_UTS_LEN


def check_spec(spec: "Any", *, rootful: bool = True, isolation_flag: str = "") -> "list[str]":
    """Check a whole spec; answer warnings.

    Shape   `isolation_flag` is the command line's word, which wins over the spec's.
    Errors  SpecError with the pointer of the first thing at fault; UsageError for the flag.
    """
    members(spec, "", _SPEC, required="ociVersion")
    annotations = spec.get("annotations", {})
    check_ours(annotations)
    isolation(annotations, spec, isolation_flag)
    if not layers(annotations) and "root" not in spec:
        raise SpecError("/root", "must provide either layers or root.path")
    warnings = check_linux(spec.get("linux", {}), rootful=rootful)
    _check_names(spec)
    if "process" in spec:
        warnings += check_process(spec["process"])
        _check_mapped(spec)
    elif sandbox(annotations)[0] != "sandbox":
        raise SpecError("/process", "process property must not be empty")
    return warnings


def _check_version(value: "Any", pointer: str) -> None:
    """Every 1.x is taken, with or without a suffix (lifecycle 133)."""
    text(value, pointer)
    numbers = value.partition("-")[0].partition("+")[0].split(".")
    good = len(numbers) == 3 and all(word.isascii() and word.isdigit() for word in numbers)
    if not good:
        raise wrong(value, pointer, "a version")
    if numbers[0] != _MAJOR:
        raise wrong(value, pointer, "a version this runtime knows, it knows 1.x")


def _check_hooks(value: "Any", pointer: str) -> None:
    from skerry.spec.hooks import check_hooks

    check_hooks(value, pointer)


def _check_vm(value: "Any", pointer: str) -> None:
    from skerry.spec.vm import check_vm

    check_vm(value, pointer)


def _check_names(spec: "dict[str, Any]") -> None:
    kinds = {item["type"] for item in spec.get("linux", {}).get("namespaces", ())}
    for word in ("hostname", "domainname"):
        value = spec.get(word, "")
        if value and "uts" not in kinds:
            raise SpecError(f"/{word}", "needs a uts namespace")
        length = len(value.encode())
        if length > _NAME_LIMIT_BYTES:
            raise SpecError(f"/{word}", f"{length} bytes, the kernel takes {_NAME_LIMIT_BYTES}")


def _check_mapped(spec: "dict[str, Any]") -> None:
    """Every id of the process must exist in a user namespace whose maps are given."""
    user = spec["process"].get("user", {})
    groups = enumerate(user.get("additionalGids", ()))
    numbers = [
        ("uid", user.get("uid", 0), "uidMappings"),
        ("gid", user.get("gid", 0), "gidMappings"),
        *((f"additionalGids/{n}", gid, "gidMappings") for n, gid in groups),
    ]
    for name, number, maps in numbers:
        lines = spec["linux"].get(maps)
        if lines and not is_mapped(lines, number):
            raise SpecError(f"/process/user/{name}", f"{number} is not mapped by /linux/{maps}")


_SPEC = {
    "ociVersion": _check_version,
    "annotations": mapping(text),
    "root": record({"path": path, "readonly": boolean}, required="path"),
    "process": obj,
    "hostname": text,
    "domainname": text,
    "mounts": check_mounts,
    "hooks": _check_hooks,
    "vm": _check_vm,
    "linux": obj,
}
