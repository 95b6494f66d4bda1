"""Operations in the manner of strace.

Runs in: plan (not hot); pure.   Imports: errno, struct; linux.abi, plan.
Source:  the man page of each call.
Never:   is used to decide anything.

`CALLS` has a row for each call whose arguments are more than numbers and strings: one formatter for each argument. What
has no formatter is shown by what it is: a register, a number, a string, memory.

Memory is what operations read or write while the plan runs. It is named m1, m2 ... in the order of the listing.
"""

import errno
from struct import unpack_from

from skerry.linux import abi
from skerry.plan import ops
from skerry.plan import show_values as v
from skerry.plan.build import Data, Op, Plan, Reg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.plan.show_values import Format

_U64 = 0xFFFFFFFFFFFFFFFF
_SHOWN_BYTES = 16
_SIGNS = {"EQ": "==", "NE": "!=", "LT": "<"}
# operation or call -> position of the argument through which memory is read or written
_MEMORY = {"LOAD": 0, "STORE": 0, "RECV": 1, "statx": 4}

_AT = {
    name: n for name, n in v.constants("AT_").items() if name not in ("AT_FDCWD", "AT_REMOVEDIR")
}
_LINK_AT = {"AT_SYMLINK_NOFOLLOW": abi.AT_SYMLINK_NOFOLLOW}
_TREE = {"OPEN_TREE_CLONE": abi.OPEN_TREE_CLONE, "OPEN_TREE_CLOEXEC": abi.OPEN_TREE_CLOEXEC, **_AT}
_FILTER_FLAGS = {
    "TSYNC": 1, "LOG": 2, "SPEC_ALLOW": 4, "NEW_LISTENER": 8, "TSYNC_ESRCH": 16, "WAIT_KILLABLE_RECV": 32,
}  # fmt: skip
_SIGNAL_HOW = {"SIG_SETMASK": 2}
_PRCTL = {
    name: n for name, n in v.constants("PR_").items() if not name.startswith("PR_CAP_AMBIENT_")
}
_WALK = v.flags(ops.WALK)
_RECORD = v.one_of(ops.RECORDS)

CALLS: "dict[str, tuple[Format, ...]]" = {
    "WALK": (v.plain, v.plain, _WALK, v.octal),
    "CHECK": (v.plain, v.file_type, v.device, v.magic, v.inode),
    "SEND": (_RECORD,),
    "RECV": (_RECORD,),
    "FIND": (v.argv,),
    "HOOK": (v.plain, v.argv, v.envp, v.state_text),
    "bpf": (v.one_of({"BPF_PROG_LOAD": 5, "BPF_PROG_ATTACH": 8}), v.bpf),
    "capset": (v.capability_header, v.capabilities),
    "clone3": (v.clone_args,),
    "close_range": (v.plain, v.plain, v.flags({"CLOSE_RANGE_CLOEXEC": 4})),
    "dup3": (v.plain, v.plain, v.close_on_exec),
    "execve": (v.plain, v.argv, v.envp),
    "fchmodat": (v.plain, v.plain, v.octal),
    "fchown": (v.plain, v.owner, v.owner),
    "fchownat": (v.plain, v.plain, v.owner, v.owner, v.flags(_LINK_AT)),
    "fsconfig": (v.plain, v.one_of(v.constants("FSCONFIG_")), v.null, v.null),
    "fsmount": (v.plain, v.flags({"FSMOUNT_CLOEXEC": 1}), v.fsmount_attributes),
    "fsopen": (v.plain, v.flags({"FSOPEN_CLOEXEC": 1})),
    "ioctl": (v.plain, v.one_of(v.constants("TIOC", "SIOC")), v.ioctl_argument),
    "ioprio_set": (v.one_of({"IOPRIO_WHO_PROCESS": 1}), v.plain, v.io_priority),
    "keyctl": (v.one_of(v.constants("KEYCTL_")),),
    "mknodat": (v.plain, v.plain, v.mode, v.device),
    "mount_setattr": (v.directory, v.plain, v.flags(_AT), v.mount_attr),
    "move_mount": (v.directory, v.plain, v.directory, v.plain, v.flags(v.constants("MOVE_MOUNT_"))),
    "open_tree": (v.directory, v.plain, v.flags(_TREE)),
    "openat": (v.directory, v.plain, v.open_flags, v.octal),
    "openat2": (v.directory, v.plain, v.open_how),
    "personality": (v.one_of(v.constants("PER_")),),
    "prctl": (v.one_of(_PRCTL),),
    "prlimit64": (v.plain, v.one_of(abi.RLIMITS), v.limit, v.null),
    "rt_sigprocmask": (v.one_of(_SIGNAL_HOW), v.signals, v.null),
    "sched_setaffinity": (v.plain, v.plain, v.bits),
    "sched_setattr": (v.plain, v.scheduler),
    "seccomp": (v.one_of(v.constants("SECCOMP_SET_")), v.flags(_FILTER_FLAGS), v.seccomp_filter),
    "set_mempolicy": (v.memory_policy, v.bits),
    "setgroups": (v.plain, v.ids),
    "setns": (v.plain, v.flags(v.CLONE)),
    "signalfd4": (v.plain, v.signals, v.plain, v.close_on_exec),
    "socket": (v.one_of({"AF_INET": 2}), v.flags({"SOCK_DGRAM": 2, "SOCK_CLOEXEC": 0o2000000})),
    "statx": (v.plain, v.plain, v.flags(_AT), v.one_of({"STATX_MODE": 2})),
    "umask": (v.octal,),
    "umount2": (v.plain, v.flags(v.constants("MNT_", "UMOUNT_"))),
    "unlinkat": (v.directory, v.plain, v.flags({"AT_REMOVEDIR": abi.AT_REMOVEDIR})),
    "unshare": (v.flags(v.CLONE),),
}


class Arguments:
    """Shows the operations of one plan."""

    def __init__(self, plan: Plan) -> None:
        self.machine = plan.machine
        self.raw = bytes(plan.data) + b"\0"
        self._pointers = set(plan.relocations)
        self._memory: list[tuple[int, int, str]] = []
        for op in plan.ops:
            self._name_memory(op)

    def of(self, op: Op) -> str:
        """`name(argument, ...)` without what becomes of the result."""
        name = op.call or op.name
        if op.name == "BRANCH":
            value, comparison, number = op.args
            word = v.word(ops.COMPARISONS, comparison)
            return f"if {self.plain(value)} {_SIGNS[word]} {number}"
        if op.name == "GOTO":
            return "go on"
        if op.name == "RECV" and op.args[2] == 0:
            return f"RECV({v.word(ops.RECORDS, op.args[0])})"  # nothing but the word
        row = CALLS.get(name, ())
        shown = [
            row[n](self, value)
            if n < len(row) and type(value) in (int, Data)
            else self.plain(value)
            for n, value in enumerate(op.args)
        ]
        if name == "prctl":
            shown = v.prctl(self, op, shown)
        return f"{name}({', '.join(shown)})"

    def plain(self, value: object) -> str:
        """A value by what it is."""
        if isinstance(value, Reg):
            return f"r{value.number}"
        if isinstance(value, Data):
            return self.memory(value.offset) or self._content(value)
        if not isinstance(value, int):
            return str(value)
        return str(value) if -4096 < value < 1 << 16 else hex(value & _U64)

    def memory(self, offset: int) -> str:
        """The name of memory at an offset, or an empty string."""
        for start, end, name in self._memory:
            if start <= offset < end:
                return name if offset == start else f"{name}+{offset - start}"
        return ""

    def memory_size(self, offset: int) -> int:
        return next(end - start for start, end, _ in self._memory if start == offset)

    def begins_memory(self, offset: int) -> bool:
        return any(start == offset for start, _, _ in self._memory)

    def string(self, offset: int) -> str:
        end = self.raw.index(b"\0", offset)
        return self.raw[offset:end].decode("utf-8", "backslashreplace")

    def quoted(self, offset: int) -> str:
        return '"' + self.string(offset).replace("\\", "\\\\").replace('"', '\\"') + '"'

    def words(self, place: Data) -> "list[int]":
        return list(unpack_from(f"<{place.size // 8}Q", self.raw, place.offset))

    def strings(self, place: Data) -> "list[int]":
        """The offsets of the strings that an array of pointers leads to."""
        offsets = range(place.offset, place.offset + place.size, 8)
        return [
            word
            for offset, word in zip(offsets, self.words(place), strict=True)
            if offset in self._pointers
        ]

    def _content(self, value: Data) -> str:
        raw = self.raw[value.offset : value.offset + value.size]
        if raw[-1:] == b"\0" and raw[:-1].decode("utf-8", "replace").isprintable():
            return self.quoted(value.offset)
        return f"[{raw.hex(' ')}]" if len(raw) <= _SHOWN_BYTES else f"[{len(raw)} bytes]"

    def _name_memory(self, op: Op) -> None:
        position = _MEMORY.get(op.call or op.name, -1)
        place = op.args[position] if position >= 0 else None
        if not isinstance(place, Data) or (op.name == "RECV" and op.args[2] == 0):
            return
        if not self.memory(place.offset):
            size = op.args[2] if op.name == "RECV" else place.size
            end = place.offset + (size if isinstance(size, int) else 0)
            self._memory.append((place.offset, end, f"m{len(self._memory) + 1}"))


def errnos(numbers: "tuple[int, ...]") -> "list[str]":
    return [errno.errorcode.get(number, str(number)) for number in numbers]
