"""Programs of the host that VMs need: at fixed places, or where the administrator says.

Runs in: vmshim, template builder, doctor.   Imports: posix; errors, vm.settings.
Source:  docs/vm.md "Confinement"; docs/security.md V27, V46.
Never:   looks into PATH, the environment or a bundle.
"""

import posix

from skerry.errors import Error, VmError
from skerry.vm import settings
from skerry.vm.confine import BASE_UID, SLOTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_UID_LIMIT = 0xFFFFFFFE


def find(name: str, places: "Sequence[str]", *, package: str) -> str:
    """What /vm/programs/<name> of the configuration says, else the first of the places where something is.

    Errors  VmError naming the package; Error for a configuration that is none.
    """
    named = (_section().get("programs") or {}).get(name)
    if named is not None:
        return _path(named, f"/vm/programs/{name}")
    for path in places:
        if posix.access(path, posix.X_OK):
            return path
    raise VmError(f"cannot find {places[0]}", phase="launch", hint=f"install {package}")


def disks_directory(default: str) -> str:
    """Where images and scratches lie: /vm/disks."""
    named = _section().get("disks")
    return default if named is None else _path(named, "/vm/disks")


def uid_base() -> int:
    """The first of the user ids for QEMU: /vm/uidBase."""
    base = _section().get("uidBase", BASE_UID)
    if type(base) is not int or not 0 < base <= _UID_LIMIT - SLOTS:
        raise Error(
            f"cannot use {settings.CONFIG_PATH}: /vm/uidBase is no user id with {SLOTS} more after it"
        )
    return base


def _section() -> "dict[str, Any]":
    section: dict[str, Any] = settings.load_config().get("vm") or {}
    return section


def _path(value: object, pointer: str) -> str:
    if type(value) is not str or not value.startswith("/"):
        raise Error(f"cannot use {settings.CONFIG_PATH}: {pointer} is not an absolute path")
    return value
