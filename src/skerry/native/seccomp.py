"""The spec's seccomp section as a filter the kernel takes, compiled once and kept.

Runs in: create, exec (hot when the filter is in the cache).   Imports: linux.seccomp.
Source:  config-linux.md "Seccomp"; seccomp(2); runc for what the spec leaves open.
Never:   loads a filter; a plan does, as late as it can be.

What the spec leaves open is answered as runc does: an action that takes a number and has none means
EPERM; a name that libseccomp does not know is left out and told; two conditions on one argument are
alternatives, for libseccomp cannot join them; without `flags` speculation is left alone
(SPEC_ALLOW); a call newer than the profile gets ENOSYS (native/enosys.py).
"""

from skerry.errors import SpecError
from skerry.linux import seccomp as table
from skerry.native import seccomp_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_EPERM, _ENOSYS = 1, 38
# libseccomp <= 2.5.4 goes wrong with a tree of no rules; for some thirty calls a list is as quick.
_BINARY_TREE_FROM = 32
_INSTRUCTION_BYTES, _INSTRUCTIONS_LIMIT = 8, 4096


class Program:
    """What a plan needs to load the filter.

    flags      for seccomp(SECCOMP_SET_MODE_FILTER)
    filter     8-byte sock_filter instructions, native order
    listener   the call answers with a listener's fd (NEW_LISTENER is among the flags)
    ignored    names of system calls that libseccomp does not know
    """

    __slots__ = ("filter", "flags", "ignored", "listener")

    def __init__(self, flags: int, filter: bytes, *, listener: bool, ignored: "list[str]") -> None:
        self.flags = flags
        self.filter = filter
        self.listener = listener
        self.ignored = ignored


def program(seccomp: "dict[str, Any]", cache_dir: str) -> Program:
    """The filter of a validated seccomp section, from the cache if it is there.

    Errors  EngineError if libseccomp is missing or refuses; SpecError if it does not know an architecture, or the
            filter is too long.
    """
    listener = uses_notify(seccomp)
    flags = _flags(seccomp, listener=listener)
    key = seccomp_cache.key(seccomp)
    kept = seccomp_cache.load(cache_dir, key)
    if kept is None:
        kept = _compile(seccomp)
        seccomp_cache.save(cache_dir, key, *kept)
    filter, ignored = kept
    return Program(flags, filter, listener=listener, ignored=ignored)


def uses_notify(seccomp: "dict[str, Any]") -> bool:
    return any(rule["action"] == "SCMP_ACT_NOTIFY" for rule in seccomp.get("syscalls", ()))


def _flags(seccomp: "dict[str, Any]", *, listener: bool) -> int:
    names = seccomp.get("flags")
    if names is None:
        names = ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    flags = 0
    for name in names:
        flags |= table.FLAGS[name]
    if listener:
        flags |= table.FLAG_NEW_LISTENER
        if flags & table.FLAGS["SECCOMP_FILTER_FLAG_TSYNC"]:
            # With both, a failure must be -ESRCH: a thread's id would look like the listener.
            flags |= table.FLAG_TSYNC_ESRCH
    return flags


def _compile(seccomp: "dict[str, Any]") -> "tuple[bytes, list[str]]":
    from skerry.native import enosys

    known = table.supported_architectures()
    for n, name in enumerate(seccomp.get("architectures", ())):
        if name not in known:
            raise SpecError(
                f"/linux/seccomp/architectures/{n}", f"the installed libseccomp does not know {name}"
            )
    default = _action(seccomp["defaultAction"], seccomp.get("defaultErrnoRet"))
    rules = _rules(seccomp)
    compiled = table.compile_filter(
        default,
        seccomp.get("architectures", []),
        rules,
        binary_tree=len(rules) > _BINARY_TREE_FROM,
    )
    filter = compiled.filter
    denies = seccomp["defaultAction"] not in table.PERMISSIVE
    if denies and seccomp.get("defaultErrnoRet") != _ENOSYS:
        filter = enosys.front(compiled.last) + filter
    length = len(filter) // _INSTRUCTION_BYTES
    if length > _INSTRUCTIONS_LIMIT:
        raise SpecError(
            "/linux/seccomp", f"{length} instructions, the kernel takes {_INSTRUCTIONS_LIMIT}"
        )
    return filter, compiled.ignored


def _action(name: str, number: "int | None") -> int:
    value, largest = table.ACTIONS[name]
    return value | (_EPERM if number is None else number) if largest else value


def _rules(
    seccomp: "dict[str, Any]",
) -> "list[tuple[str, int, list[tuple[int, int, int, int]]]]":
    rules = []
    for rule in seccomp.get("syscalls", ()):
        action = _action(rule["action"], rule.get("errnoRet"))
        conditions = [
            (item["index"], table.OPERATORS[item["op"]], item["value"], item.get("valueTwo", 0))
            for item in rule.get("args", ())
        ]
        alternatives = [conditions]
        if len({condition[0] for condition in conditions}) < len(conditions):
            alternatives = [[condition] for condition in conditions]
        rules += [(name, action, chosen) for name in rule["names"] for chosen in alternatives]
    return rules
