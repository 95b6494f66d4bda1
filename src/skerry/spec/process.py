"""Rules for `process`: of a spec, and of the document that exec is given.

Runs in: create, run, exec (hot); pure but for one question about our own stack.
Imports: linux.abi linux.caps linux.rlimits.
Source:  runtime-spec config.md "Process"; execve(2), setgroups(2), prlimit(2); lifecycle 96.
Never:   shows the value of an environment variable or an argument.
"""

from skerry.errors import SpecError
from skerry.linux import abi, rlimits
from skerry.linux.caps import CAPS
from skerry.spec import unsupported
from skerry.spec.fields import (
    ID,
    UINT16,
    UINT64,
    array,
    boolean,
    each,
    environment,
    integer,
    members,
    obj,
    record,
    secret_texts,
    text,
    texts,
    wrong,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_GROUPS_LIMIT = 65536  # NGROUPS_MAX
_UMASK_LIMIT = 0o777
# fs/exec.c: arguments and environment may fill a quarter of the stack's limit, never more than
# three quarters of _STK_LIM; ARG_MAX is always granted.
_ARGUMENTS_LIMIT_BYTES, _ARGUMENTS_GRANTED_BYTES = 6 << 20, 128 << 10
_POINTER_BYTES = 8


def check_process(process: "Any", pointer: str = "/process") -> "list[str]":
    """Check a process; answer warnings.

    Errors  SpecError with the pointer of the first property at fault.
    """
    obj(process, pointer)
    unsupported.refuse("process", process, pointer)
    _check_cwd(process, pointer)
    members(process, pointer, _PROCESS)
    _check_args(process, pointer)
    if "user" in process:
        unsupported.refuse("user", process["user"], f"{pointer}/user")
    if process.get("terminal") and "consoleSize" in process:
        members(process["consoleSize"], f"{pointer}/consoleSize", _SIZE, required="height width")
    _check_size(process, pointer)
    return _unknown_capabilities(process.get("capabilities", {}), pointer)


def _check_cwd(process: "dict[str, Any]", pointer: str) -> None:
    cwd = process.get("cwd", "")
    text(cwd, f"{pointer}/cwd")
    if not cwd:
        raise SpecError(f"{pointer}/cwd", "Cwd property must not be empty")
    if cwd[0] != "/":
        raise SpecError(f"{pointer}/cwd", "Cwd must be an absolute path")


def _check_args(process: "dict[str, Any]", pointer: str) -> None:
    args = process.get("args")
    if not args:
        raise SpecError(f"{pointer}/args", "args must not be empty")
    if not args[0]:
        raise SpecError(f"{pointer}/args/0", "args must not be empty")


def _check_size(process: "dict[str, Any]", pointer: str) -> None:
    """What execve would refuse with E2BIG, told now (decisions.md 13)."""
    strings = [*process["args"], *process.get("env", ())]
    used = sum(map(len, strings)) + len(strings) * (1 + _POINTER_BYTES)
    if used * 4 <= _ARGUMENTS_GRANTED_BYTES:
        return  # even if every character took four bytes
    used = sum(len(item.encode()) for item in strings) + len(strings) * (1 + _POINTER_BYTES)
    limit = max(min(_ARGUMENTS_LIMIT_BYTES, _stack(process) // 4), _ARGUMENTS_GRANTED_BYTES)
    if used > limit:
        raise SpecError(
            f"{pointer}/args", f"{used} bytes of args and env, the kernel takes {limit}"
        )


def _stack(process: "dict[str, Any]") -> int:
    """The stack's soft limit: the spec's, else ours, which the program inherits (decisions 25)."""
    for item in process.get("rlimits", ()):
        if item["type"] == "RLIMIT_STACK":
            return int(item["soft"])
    soft = rlimits.own()[abi.RLIMITS["RLIMIT_STACK"]][0]
    return 1 << 64 if soft == rlimits.INFINITY else soft


def _check_groups(user: "Any", pointer: str) -> None:
    groups = len(user.get("additionalGids", ()))
    if groups > _GROUPS_LIMIT:
        raise SpecError(
            f"{pointer}/additionalGids", f"{groups} groups, the kernel takes {_GROUPS_LIMIT}"
        )


def _check_rlimits(value: "Any", pointer: str) -> None:
    array(value, pointer)
    seen = set()
    for n, item in enumerate(value):
        here = f"{pointer}/{n}"
        members(item, here, _RLIMIT, required="type soft hard")
        if item["type"] in seen:
            raise SpecError(f"{here}/type", f"{item['type']} is given twice")
        seen.add(item["type"])
        if item["soft"] > item["hard"]:
            raise SpecError(
                f"{here}/soft", f"{item['soft']} is above the hard limit {item['hard']}"
            )


def check_scheduling(value: "Any", pointer: str) -> None:
    """Check one of the properties of spec/scheduling.py: few specs have any, so it is loaded late."""
    from skerry.spec.scheduling import CHECKS

    CHECKS[pointer.rpartition("/")[2]](value, pointer)


def _check_rlimit_type(value: "Any", pointer: str) -> None:
    text(value, pointer)
    if value not in abi.RLIMITS:
        raise wrong(value, pointer, "a resource limit of Linux")


def _unknown_capabilities(capabilities: "dict[str, list[str]]", pointer: str) -> "list[str]":
    """The spec wants them ignored, with a warning."""
    warnings = []
    for kind, names in capabilities.items():
        if kind in _CAPABILITIES:
            warnings += [
                f'{pointer}/capabilities/{kind}/{n}: unknown capability "{name}" is ignored'
                for n, name in enumerate(names)
                if name not in CAPS
            ]
    return warnings


_CAPABILITIES = dict.fromkeys(
    ("bounding", "effective", "inheritable", "permitted", "ambient"), texts
)
_RLIMIT = {"type": _check_rlimit_type, "soft": UINT64, "hard": UINT64}
# The kernel keeps both in 16 bits (struct winsize).
_SIZE = {"height": UINT16, "width": UINT16}
_USER = {"uid": ID, "gid": ID, "umask": integer(0, _UMASK_LIMIT), "additionalGids": each(ID)}
_PROCESS = {
    "terminal": boolean,
    "user": record(_USER, then=_check_groups),
    "args": secret_texts,
    "env": environment,
    "capabilities": record(_CAPABILITIES),
    "rlimits": _check_rlimits,
    "noNewPrivileges": boolean,
    "apparmorProfile": text,
    "oomScoreAdj": integer(-1000, 1000),
    "scheduler": check_scheduling,
    "ioPriority": check_scheduling,
    "execCPUAffinity": check_scheduling,
}
