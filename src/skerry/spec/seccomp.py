"""Rules for `linux.seccomp`.

Runs in: create, run (hot); pure.   Imports: linux.seccomp.
Source:  config-linux.md "Seccomp"; seccomp_unotify(2), seccomp_rule_add(3).
Never:   compiles.
"""

from skerry.errors import SpecError
from skerry.linux import seccomp as table
from skerry.spec.fields import (
    UINT32,
    UINT64,
    absolute_path,
    each,
    integer,
    members,
    one_of,
    record,
    text,
    texts,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NOTIFY = "SCMP_ACT_NOTIFY"
_WAIT_KILLABLE = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
# skerry-init tells its parent of the listener with it: stopped there, nobody could ever answer.
_NEVER_NOTIFIED = "write"


def check_seccomp(seccomp: "Any", pointer: str = "/linux/seccomp") -> None:
    """Check form and sense of the section.

    Errors  SpecError.
    """
    members(seccomp, pointer, _SECCOMP, required="defaultAction")
    default = seccomp["defaultAction"]
    if default == _NOTIFY:
        raise SpecError(f"{pointer}/defaultAction", f"{_NOTIFY} cannot be the default action")
    _check_errno(seccomp, pointer, "defaultAction", "defaultErrnoRet")
    notify = False
    for n, rule in enumerate(seccomp.get("syscalls", ())):
        here = f"{pointer}/syscalls/{n}"
        _check_errno(rule, here, "action", "errnoRet")
        if rule["action"] == _NOTIFY:
            notify = True
            if _NEVER_NOTIFIED in rule["names"]:
                raise SpecError(
                    f"{here}/action",
                    f"{_NOTIFY} cannot be used for {_NEVER_NOTIFIED}, which announces the listener",
                )
    if notify and "listenerPath" not in seccomp:
        raise SpecError(f"{pointer}/listenerPath", f"is needed for {_NOTIFY}")
    if "listenerMetadata" in seccomp and "listenerPath" not in seccomp:
        raise SpecError(f"{pointer}/listenerMetadata", "is not allowed without listenerPath")
    if not notify and _WAIT_KILLABLE in seccomp.get("flags", ()):
        raise SpecError(f"{pointer}/flags", f"{_WAIT_KILLABLE} needs a rule with {_NOTIFY}")


def _check_errno(value: "dict[str, Any]", pointer: str, action: str, number: str) -> None:
    """An action that takes no number must not be given one (config-linux.md)."""
    if number not in value:
        return
    _, largest = table.ACTIONS[value[action]]
    if not largest:
        raise SpecError(f"{pointer}/{number}", f"{value[action]} takes no number")
    if value[number] > largest:
        raise SpecError(f"{pointer}/{number}", f"{value[number]} is not in 0..{largest}")


def _check_names(value: "Any", pointer: str) -> None:
    texts(value, pointer)
    if not value:
        raise SpecError(pointer, "must not be empty")
    if "" in value:
        raise SpecError(f"{pointer}/{value.index('')}", "must not be empty")


_ACTION = one_of(*table.ACTIONS)
_ARG = {
    "index": integer(0, table.ARGUMENTS - 1),
    "value": UINT64,
    "valueTwo": UINT64,
    "op": one_of(*table.OPERATORS),
}
_RULE = {
    "names": _check_names,
    "action": _ACTION,
    "errnoRet": UINT32,
    "args": each(record(_ARG, required="index value op")),
}
_SECCOMP = {
    "defaultAction": _ACTION,
    "defaultErrnoRet": UINT32,
    "flags": each(one_of(*table.FLAGS)),
    "listenerPath": absolute_path,
    "listenerMetadata": text,
    "architectures": each(one_of(*table.ARCHITECTURES)),
    "syscalls": each(record(_RULE, required="names action")),
}
