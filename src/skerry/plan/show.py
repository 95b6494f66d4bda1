"""A plan as text or JSON, for `skerry plan`, golden tests and debugging.

Runs in: plan (not hot); pure.   Imports: linux.abi, plan.ops.
Source:  none.
Never:   is used to decide anything.
"""

from skerry.linux import abi
from skerry.plan import ops
from skerry.plan.build import Data, Plan, Reg

# call -> argument -> prefix of the constants it is made of (linux/abi.py)
_FLAGS = {
    "openat": {2: "O_"},
    "open_tree": {2: "OPEN_TREE_ AT_ O_"},
    "move_mount": {4: "MOVE_MOUNT_"},
    "umount2": {1: "MNT_ UMOUNT_"},
    "mount_setattr": {2: "AT_"},
    "fsmount": {2: "MOUNT_ATTR_"},
    "fsconfig": {1: "FSCONFIG_"},
    "prctl": {0: "PR_"},
    "setns": {1: "CLONE_"},
    "unshare": {0: "CLONE_"},
    "unlinkat": {2: "AT_"},
    "keyctl": {0: "KEYCTL_"},
    "seccomp": {0: "SECCOMP_SET_"},
    "WALK": {2: "WALK_"},
}
_EXACT = ("PR_", "FSCONFIG_", "KEYCTL_", "SECCOMP_SET_")


def text(plan: Plan) -> str:
    """The listing: one line per process and step, one per operation."""
    lines = []
    for fd, what in plan.fds.items():
        lines.append(f"fd {fd}: {what}")
    process, label = -1, None
    for index, op in enumerate(plan.ops):
        if op.process != process:
            process = op.process
            lines.append("")
            lines.append(f"{plan.process_name(process)}")
        if op.label is not label:
            label = op.label
            lines.append(f"  {label.text}" + (f"    [{label.pointer}]" if label.pointer else ""))
        lines.append(f"    {index:4} {describe(plan, index)}")
    return "\n".join(lines) + "\n"


def as_json(plan: Plan) -> object:
    """The listing as data: `{"fds", "processes", "ops": [{"index", "process", "step", "pointer", "op"}]}`."""
    return {
        "fds": {str(fd): what for fd, what in plan.fds.items()},
        "processes": plan.processes,
        "ops": [
            {
                "index": index,
                "process": plan.process_name(op.process),
                "step": op.label.text,
                "pointer": op.label.pointer,
                "op": describe(plan, index),
            }
            for index, op in enumerate(plan.ops)
        ],
    }


def describe(plan: Plan, index: int) -> str:
    """One operation in the manner of strace: `openat(r3, "dev", O_PATH, 0) -> r4 else 12 on ENOENT`."""
    op = plan.ops[index]
    name = op.call or op.name
    args = ", ".join(_argument(plan, name, i, value) for i, value in enumerate(op.args))
    line = f"{name}({args})"
    if op.name == "BRANCH":
        word = _constant(ops.COMPARISONS, op.args[1])
        line = f"BRANCH({_plain(plan, op.args[0])} {word} {op.args[2]})"
    if op.dst is not None:
        line += f" -> r{op.dst.number}"
    if op.fail == ops.IGNORE:
        line += f", ignoring {_errnos(op.errnos)}"
    elif op.fail == ops.JUMP and op.target is not None:
        line += f", to {op.target.index} on {_errnos(op.errnos)}"
    elif op.target is not None:
        line += f" to {op.target.index}"
    return line


def _errnos(numbers: "tuple[int, ...]") -> str:
    import errno

    return "|".join(errno.errorcode.get(n, str(n)) for n in numbers) or "any error"


def _argument(plan: Plan, name: str, position: int, value: object) -> str:
    if name == "SEND" and position == 0:
        return _constant(ops.RECORDS, value)
    if name == "RECV" and position == 0:
        return _constant(ops.RECORDS, value)
    prefixes = _FLAGS.get(name, {}).get(position)
    if prefixes and type(value) is int:
        return _flags(value, prefixes.split())
    return _plain(plan, value)


def _constant(table: "dict[str, int]", value: object) -> str:
    return next((word for word, number in table.items() if number == value), str(value))


def _flags(value: int, prefixes: "list[str]") -> str:
    words = []
    source = {**vars(abi), **{"WALK_" + word: bit for word, bit in ops.WALK.items()}}
    for name, number in source.items():
        if type(number) is not int or not name.startswith(tuple(prefixes)):
            continue
        if any(name.startswith(exact) for exact in _EXACT):
            if number == value:
                return name
        elif number > 0 and value & number == number:
            words.append(name)
            value &= ~number
    if value or not words:
        words.append(str(value) if value < 4096 else hex(value))
    return "|".join(words)


def _plain(plan: Plan, value: object) -> str:
    if type(value) is Reg:
        return f"r{value.number}"
    if type(value) is Data:
        return _data(plan, value)
    if value == abi.AT_FDCWD:
        return "AT_FDCWD"
    if not isinstance(value, int):
        return str(value)
    return str(value) if -4096 < value < 65536 else hex(value)


def _data(plan: Plan, place: Data) -> str:
    raw = bytes(plan.data[place.offset : place.offset + place.size])
    content = raw[:-1]
    if raw[-1:] == b"\0" and all(32 <= byte < 127 for byte in content):
        return '"' + content.decode() + '"'
    return f"[{place.size} bytes]"
