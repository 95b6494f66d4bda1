"""Values of a plan in words: flags by name, structures taken apart.

Runs in: plan (not hot); pure.   Imports: struct; linux.abi, linux.caps, plan.build.
Source:  the man page of each call; the header of a structure is named where a recipe packs it.
Never:   shows the value of an environment variable.

A formatter takes (the plan's Arguments, an argument); a number or a place in the data, never a register.
"""

from struct import unpack_from

from skerry.linux import abi
from skerry.linux.caps import CAPS
from skerry.plan.build import Data, Op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skerry.plan.show_calls import Arguments

    Format = Callable[["Arguments", object], str]

_U32, _U64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


def word(table: "Mapping[str, int]", value: object) -> str:
    return next((word for word, number in table.items() if number == value), str(value))


def constants(*prefixes: str) -> "dict[str, int]":
    """Constants of linux/abi.py by the beginnings of their names."""
    return {
        name: number
        for name, number in vars(abi).items()
        if name.startswith(prefixes) and type(number) is int
    }


def join(table: "Mapping[str, int]", value: int, strip: str = "") -> str:
    """A sum of flags; what has no name is left as a number."""
    words = []
    for name, number in table.items():
        if number > 0 and value & number == number:
            words.append(name.removeprefix(strip))
            value &= ~number
    if value or not words:
        words.append(str(value) if value < 10 else hex(value))
    return "|".join(words)


def flags(table: "Mapping[str, int]", strip: str = "") -> "Format":
    return lambda show, value: join(table, _number(value), strip)


def one_of(table: "Mapping[str, int]") -> "Format":
    return lambda show, value: word(table, value)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def plain(show: "Arguments", value: object) -> str:
    return show.plain(value)


def octal(show: "Arguments", value: object) -> str:
    return f"{_number(value):04o}" if value else "0"


def directory(show: "Arguments", value: object) -> str:
    return "AT_FDCWD" if value == abi.AT_FDCWD else show.plain(value)


def null(show: "Arguments", value: object) -> str:
    return "NULL" if value == 0 else show.plain(value)


def owner(show: "Arguments", value: object) -> str:
    return "-1" if value == _U32 else str(value)


def open_flags(show: "Arguments", value: object) -> str:
    """Reading is no flag; it is said where no other access is."""
    access = abi.O_WRONLY | abi.O_RDWR | abi.O_PATH
    words = _join_open(show, _number(value)) if value else ""
    return words if _number(value) & access else "|".join(filter(None, ("O_RDONLY", words)))


def close_on_exec(show: "Arguments", value: object) -> str:
    """Flags of dup3 and signalfd4."""
    return _join_open(show, _number(value)) if value else "0"


def _join_open(show: "Arguments", value: int) -> str:
    return join(_open_table(show), value)


def _open_table(show: "Arguments") -> "dict[str, int]":
    directory, nofollow = abi.OPEN_FLAGS[show.machine]
    return {**constants("O_"), "O_DIRECTORY": directory, "O_NOFOLLOW": nofollow}


def mode(show: "Arguments", value: object) -> str:
    kind, bits = _number(value) & 0o170000, _number(value) & 0o7777
    return f"{word(_FILE_TYPES, kind)}|{bits:04o}" if kind else f"{bits:04o}"


def file_type(show: "Arguments", value: object) -> str:
    return word(_FILE_TYPES, value) if value else "any"


def device(show: "Arguments", value: object) -> str:
    number = _number(value)
    major, minor = number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00
    return f"device {major}:{minor}" if number else "any"


def magic(show: "Arguments", value: object) -> str:
    return word(_MAGICS, value) if value else "any"


def inode(show: "Arguments", value: object) -> str:
    return f"inode {value}" if value else "any"


def argv(show: "Arguments", value: object) -> str:
    if not isinstance(value, Data):
        return show.plain(value)
    return f"[{', '.join(map(show.quoted, show.strings(value)))}]"


def envp(show: "Arguments", value: object) -> str:
    """Names only; a value may be a secret. What is filled in later is memory."""
    if not isinstance(value, Data):
        return show.plain(value)
    words = []
    for offset in show.strings(value):
        name = show.string(offset).partition("=")[0]
        words.append(f"{name}={show.memory(offset) or '...'}")
    return f"[{', '.join(words)}]"


def state_text(show: "Arguments", value: object) -> str:
    """The state of a hook, with the memory that its pid is filled into."""
    if not isinstance(value, Data) or not value.size:
        return "NULL"
    words, start = "", value.offset
    for offset in range(value.offset, value.offset + value.size):
        if show.begins_memory(offset):
            words += show.raw[start:offset].decode("utf-8", "backslashreplace") + show.memory(
                offset
            )
            start = offset + show.memory_size(offset)
    return words + show.raw[start : value.offset + value.size].decode("utf-8", "backslashreplace")


def signals(show: "Arguments", value: object) -> str:
    mask = show.words(value)[0] if isinstance(value, Data) else 0
    return {0: "[]", _U64: "~[]"}.get(mask, hex(mask))


def bits(show: "Arguments", value: object) -> str:
    """A mask of processors or nodes as a list of ranges."""
    if not isinstance(value, Data):
        return "NULL"
    mask = int.from_bytes(show.raw[value.offset : value.offset + value.size], "little")
    ranges, low = [], 0
    while mask >> low:
        low += (mask >> low & -(mask >> low)).bit_length() - 1
        run = mask >> low
        length = (~run & run + 1).bit_length() - 1
        ranges.append(str(low) if length == 1 else f"{low}-{low + length - 1}")
        low += length
    return f"[{','.join(ranges)}]"


def ids(show: "Arguments", value: object) -> str:
    if not isinstance(value, Data):
        return "NULL"
    return str(list(unpack_from(f"<{value.size // 4}I", show.raw, value.offset)))


def limit(show: "Arguments", value: object) -> str:
    if not isinstance(value, Data):
        return "NULL"
    soft, hard = ("infinity" if word == _U64 else str(word) for word in show.words(value))
    return f"{{soft={soft}, hard={hard}}}"


def mount_attr(show: "Arguments", value: object) -> str:
    if not isinstance(value, Data):
        return show.plain(value)
    add, clear, propagation, _ = show.words(value)
    parts = []
    for word, number in (("set", add), ("clear", clear)):
        if number or (word == "set" and clear & abi.MOUNT_ATTR_ATIME):
            parts.append(f"{word}={_attributes(number, whole=bool(clear & abi.MOUNT_ATTR_ATIME))}")
    if propagation:
        parts.append(f"propagation={join(_PROPAGATION, propagation, 'MS_')}")
    return f"{{{', '.join(parts)}}}"


def _attributes(value: int, *, whole: bool) -> str:
    """Access times are a field of three bits: in `set` one of its values, in `clear` all of them."""
    time = value & abi.MOUNT_ATTR_ATIME
    words = [join(_ATTRIBUTES, value & ~time, "MOUNT_ATTR_")] if value & ~time else []
    if time == abi.MOUNT_ATTR_ATIME:
        words.append("ATIME")
    elif time or whole:
        words.append(word(_ACCESS_TIMES, time))
    return "|".join(words) or "0"


def fsmount_attributes(show: "Arguments", value: object) -> str:
    return _attributes(_number(value), whole=False)


def clone_args(show: "Arguments", value: object) -> str:
    if not isinstance(value, Data):
        return show.plain(value)
    words = show.words(value)
    parts = [f"flags={join(CLONE, words[0])}"]
    if words[0] & abi.CLONE_PIDFD:
        parts.append(f"pidfd={show.memory(words[1])}")
    parts.append(f"exit_signal={_EXIT_SIGNALS.get(words[4], words[4])}")
    if words[0] & abi.CLONE_INTO_CGROUP:
        parts.append(f"cgroup={words[10]}")
    return f"{{{', '.join(parts)}}}"


def open_how(show: "Arguments", value: object) -> str:
    if not isinstance(value, Data):
        return show.plain(value)
    how, mode, resolve = show.words(value)
    shown = f"flags={open_flags(show, how)}, resolve={join(_RESOLVE, resolve, 'RESOLVE_')}"
    return f"{{{shown}, mode={mode:04o}}}" if mode else f"{{{shown}}}"


def seccomp_filter(show: "Arguments", value: object) -> str:
    if not isinstance(value, Data):
        return show.plain(value)
    return f"{{{show.words(value)[0]} instructions}}"


def bpf(show: "Arguments", value: object) -> str:
    """Two commands: PROG_LOAD (whose second word leads to the code), PROG_ATTACH."""
    if not isinstance(value, Data):
        return show.plain(value)
    words = show.words(value)
    if show.begins_memory(value.offset + 4):
        where = f"target_fd={words[0] & _U32}, attach_bpf_fd={show.memory(value.offset + 4)}"
        kind = _BPF_ATTACH.get(words[1] & _U32, words[1] & _U32)
        return f"{{{where}, {kind}, flags={join({'ALLOW_MULTI': 2}, words[1] >> 32)}}}"
    kind = _BPF_KINDS.get(words[0] & _U32, words[0] & _U32)
    return f"{{{kind}, {words[0] >> 32} instructions, license={show.quoted(words[2])}}}"


def capabilities(show: "Arguments", value: object) -> str:
    if not isinstance(value, Data):
        return show.plain(value)
    halves = unpack_from("<6I", show.raw, value.offset)
    sets = zip(("effective", "permitted", "inheritable"), halves, halves[3:], strict=False)
    table = {name: 1 << number for name, number in CAPS.items()}
    return "{" + ", ".join(f"{n}={join(table, low | high << 32)}" for n, low, high in sets) + "}"


def capability_header(show: "Arguments", value: object) -> str:
    return "{version=3, pid=0}"


def scheduler(show: "Arguments", value: object) -> str:
    if not isinstance(value, Data):
        return show.plain(value)
    _, policy, bits, nice, priority, *times = unpack_from("<IIQiIQQQ", show.raw, value.offset)
    parts = [word(abi.SCHED_POLICIES, policy), f"nice={nice}", f"priority={priority}"]
    if bits:
        parts.append(f"flags={join(abi.SCHED_FLAGS, bits, 'SCHED_FLAG_')}")
    if any(times):
        parts += [f"{w}={t}" for w, t in zip(("runtime", "deadline", "period"), times, strict=True)]
    return f"{{{', '.join(parts)}}}"


def io_priority(show: "Arguments", value: object) -> str:
    kind = word(abi.IOPRIO_CLASSES, _number(value) >> abi.IOPRIO_CLASS_SHIFT)
    return f"{kind}|{_number(value) & (1 << abi.IOPRIO_CLASS_SHIFT) - 1}"


def memory_policy(show: "Arguments", value: object) -> str:
    mask = sum(abi.MPOL_FLAGS.values())
    mode, bits = _number(value) & ~mask, _number(value) & mask
    return word(abi.MPOL_MODES, mode) + ("|" + join(abi.MPOL_FLAGS, bits) if bits else "")


def ioctl_argument(show: "Arguments", value: object) -> str:
    """TIOCSWINSZ and SIOCSIFFLAGS have structures; TIOCGPTPEER has open flags."""
    if isinstance(value, Data) and value.size == 8:
        rows, columns, _, _ = unpack_from("<4H", show.raw, value.offset)
        return f"{{rows={rows}, columns={columns}}}"
    if isinstance(value, Data) and value.size == 40:
        name = show.string(value.offset)
        bits = unpack_from("<H", show.raw, value.offset + 16)[0]
        return f'{{"{name}", flags={join({"IFF_UP": 1}, bits)}}}'
    if isinstance(value, Data):
        return f"[{unpack_from('<i', show.raw, value.offset)[0]}]"
    return close_on_exec(show, value)


def prctl(show: "Arguments", op: Op, shown: "list[str]") -> "list[str]":
    """What the later arguments are depends on the first; zeros at the end say nothing."""
    first, second = op.args[0], op.args[1]
    number = op.args[2] if len(op.args) > 2 else 0
    if first == abi.PR_CAPBSET_DROP:
        return [shown[0], word(CAPS, second)]
    if first == abi.PR_CAP_AMBIENT:
        what = word(constants("PR_CAP_AMBIENT_"), second)
        return [
            shown[0],
            what,
            *([word(CAPS, number)] if second == abi.PR_CAP_AMBIENT_RAISE else []),
        ]
    return shown[:2]


CLONE = constants("CLONE_")
_RESOLVE = constants("RESOLVE_")
_ACCESS_TIMES = {
    "RELATIME": abi.MOUNT_ATTR_RELATIME,
    "NOATIME": abi.MOUNT_ATTR_NOATIME,
    "STRICTATIME": abi.MOUNT_ATTR_STRICTATIME,
}
_ATTRIBUTES = {
    name: number
    for name, number in constants("MOUNT_ATTR_").items()
    if number & ~abi.MOUNT_ATTR_ATIME
}
_PROPAGATION = {name: n for name, n in constants("MS_").items() if name != "MS_REC"}
_FILE_TYPES = constants("S_IF")
_MAGICS = {n: v for n, v in vars(abi).items() if n.endswith("_MAGIC")}
_EXIT_SIGNALS = {17: "SIGCHLD"}
_BPF_KINDS, _BPF_ATTACH = {15: "CGROUP_DEVICE"}, {6: "CGROUP_DEVICE"}
