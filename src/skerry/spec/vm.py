"""The `vm` section: its form, and what of it means something here.

Runs in: create, run of specs that have one; pure.   Imports: spec.fields.
Source:  config-vm.md, config-vm-schema.json of runtime-spec 1.3.0.
Never:   looks for the files; vm/settings.py takes the values.

The specification wants `kernel`. Here it may be left out, for skerry has one of its own: an empty section
asks for VM isolation and nothing else.
"""

from skerry.errors import SpecError
from skerry.spec.fields import (
    UINT32,
    UINT64,
    absolute_path,
    each,
    members,
    obj,
    one_of,
    record,
    texts,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMATS = ("raw", "qcow2", "vdi", "vmdk", "vhd")
# property of hwConfig -> why it is refused
_NOT_OF_QEMU = {
    "deviceTree": "this machine takes no device tree",
    "dtdevs": "a device of a device tree has no meaning with QEMU",
    "iomems": "a range of I/O memory has no meaning with QEMU",
    "irqs": "an interrupt of the host has no meaning with QEMU",
}


def check_vm(value: "Any", pointer: str = "/vm") -> None:
    """Errors  SpecError."""
    members(value, pointer, _VM)


def refuse(section: "dict[str, Any]") -> None:
    """What no VM of ours can have; called where one is to be made.

    Errors  SpecError.
    """
    for name, why in _NOT_OF_QEMU.items():
        if (section.get("hwConfig") or {}).get(name):
            raise SpecError(f"/vm/hwConfig/{name}", why)
    if section.get("image"):
        raise SpecError("/vm/image", "a guest runs from its initramfs, which skerry image build makes")


_PROGRAM = record({"path": absolute_path, "parameters": texts}, required="path")
_VM = {
    "hypervisor": _PROGRAM,
    "kernel": record(
        {"path": absolute_path, "parameters": texts, "initrd": absolute_path}, required="path"
    ),
    "image": record({"path": absolute_path, "format": one_of(*FORMATS)}, required="path format"),
    "hwConfig": record(
        {
            "deviceTree": absolute_path,
            "vcpus": UINT32,
            "memory": UINT64,
            "dtdevs": texts,
            "iomems": each(obj),
            "irqs": each(UINT32),
        }
    ),
}
