"""The rules of a plan's shape a second time, in Python, read from the words of plan/ops.py.

Runs in: tests.   Imports: plan.ops.
Source:  plan/ops.py; written without looking at init/plan.c, which the fuzz test compares it with.
"""

import struct

from skerry.plan import ops

HEADER_BYTES = struct.calcsize(ops.HEADER_FORMAT)
OP_BYTES = struct.calcsize(ops.OP_FORMAT)
NAMES = {code: name for name, code in ops.CODES.items()}
# where a length says how much of the data an operation touches: (offset, length or width or count, unit, writes)
RANGES = {
    "LOAD": (0, 1, 1, False),
    "STORE": (0, 1, 1, True),
    "RECV": (1, 2, 1, True),
    "WRITE": (1, 2, 1, False),
    "FIND": (0, 1, 8, False),
    "HOOK": (3, 4, 1, False),
}
JUMPS = ("GOTO", "BRANCH")
ALWAYS_FATAL = (*JUMPS, "HOOK")

HEADER_FIELDS = ["magic", "version", "total", "operations", "relocations", "registers", "offset",
                 "size", "conversation", "reserved"]  # fmt: skip


def get_header(plan: bytes, name: str) -> int:
    return struct.unpack_from("<I", plan, 4 * HEADER_FIELDS.index(name))[0]


def is_valid(plan: bytes) -> bool:
    """Whether skerry-init must take the plan."""
    try:
        check(plan)
    except (ValueError, struct.error):
        return False
    return True


def demand(condition: bool) -> None:
    if not condition:
        raise ValueError


def check(plan: bytes) -> None:
    demand(HEADER_BYTES <= len(plan) <= ops.PLAN_LIMIT_BYTES)
    header = struct.unpack_from(ops.HEADER_FORMAT, plan)
    magic, version, total, count, places, registers, offset, size, conversation, reserved = header
    demand((magic, version, reserved) == (ops.MAGIC, ops.VERSION, 0))
    demand(total == len(plan) == offset + size)
    demand(conversation >= -1 and registers <= ops.REGISTERS)
    demand(offset % ops.DATA_ALIGN_BYTES == 0)
    demand(offset >= HEADER_BYTES + count * OP_BYTES + places * 4)
    data = plan[offset:]
    demand(not data or data[-1] == 0)
    for index in range(count):
        row = struct.unpack_from(ops.OP_FORMAT, plan, HEADER_BYTES + index * OP_BYTES)
        check_op(row, index, count, registers, len(data))
    seen = set()
    for index in range(places):
        (place,) = struct.unpack_from("<I", plan, HEADER_BYTES + count * OP_BYTES + index * 4)
        demand(place % 8 == 0 and place + 8 < len(data) and place not in seen)
        demand(int.from_bytes(data[place : place + 8], "little") < len(data))
        seen.add(place)


def check_op(row: tuple, index: int, count: int, registers: int, size: int) -> None:
    code, result, number, fail, used, *rest = row
    errnos, target, kinds, (_, reserved), args = rest[:4], rest[4], rest[5:11], rest[11:13], rest[13:]
    demand(code in NAMES and reserved == 0)
    name = NAMES[code]
    demand(name == "SYSCALL" or number == 0)
    demand(result == ops.NO_REGISTER or result < registers)
    check_arguments(name, used, kinds, args, registers, size)
    check_numbers(name, kinds, args, size)
    demand(fail in ops.FAIL.values() and (fail == ops.FATAL or name not in ALWAYS_FATAL))
    listed = errnos.index(0) if 0 in errnos else len(errnos)
    demand(not any(errnos[listed:]) and all(errno < 4096 for errno in errnos))
    demand(listed == 0 or fail != ops.FATAL)
    if name in JUMPS or fail == ops.JUMP:
        demand(index < target <= count)
    else:
        demand(target == 0)


def check_arguments(name: str, used: int, kinds: list, args: list, registers: int, size: int) -> None:
    places = ops.OPS[name][1].split()
    if places == ["args..."]:
        demand(used <= ops.ARGUMENTS)
        places = ["anything"] * used
    demand(len(places) - places.count("keep") <= used <= len(places))
    demand(not any(kinds[used:]) and not any(args[used:]))
    for place, kind, value in zip(places, kinds[:used], args[:used], strict=False):
        every = (ops.NUMBER, ops.DATA, ops.REGISTER)
        usual = every if place == "anything" else (ops.NUMBER, ops.REGISTER)
        demand(kind in ops.PLACES.get(place, usual))
        demand(kind != ops.DATA or value < size)
        demand(kind != ops.REGISTER or value < registers)


def check_numbers(name: str, kinds: list, args: list, size: int) -> None:
    if name in RANGES:
        offset, length, unit, writes = RANGES[name]
        if kinds[offset] == ops.NUMBER:
            demand(args[offset] == args[length] == 0)
        elif kinds[length] == ops.NUMBER:
            demand(args[offset] + args[length] * unit <= size - writes)
    if name in ("LOAD", "STORE"):
        demand(args[1] in (4, 8))
    elif name == "BRANCH":
        demand(args[1] in ops.COMPARISONS.values())
    elif name in ("SEND", "RECV"):
        demand(args[0] < 1 << 32)
        demand(name == "SEND" or args[2] <= ops.RECORD_LIMIT_BYTES)
    elif name == "FIND":
        demand(args[0] % 8 == 0)
    elif name == "WALK":
        what = args[2] & ~ops.WALK_NOFOLLOW
        both = ops.WALK_DIRECTORY | ops.WALK_FILE
        demand(0 < what < ops.WALK_NOFOLLOW and what & both != both and args[3] <= 0o7777)
