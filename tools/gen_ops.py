#!/usr/bin/python3
"""Print plan/ops.py and the system call numbers of linux/abi.py as `init/ops.h`.

Runs in: make.   Imports: plan.ops, linux.abi.
Source:  plan/ops.py is the table; this is its other spelling.
Never:   decides anything: what is not in the table is not in the header.

Usage: tools/gen_ops.py [output]; without an output it prints.
"""

import struct
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from skerry.linux import abi  # noqa: E402
from skerry.plan import ops  # noqa: E402

HEAD = """\
/* Printed by tools/gen_ops.py from plan/ops.py and linux/abi.py. Not edited by hand: run `make -C init ops`. */
#ifndef SKERRY_OPS_H
#define SKERRY_OPS_H
"""

LIMITS = (
    "MAGIC",
    "VERSION",
    "PLAN_LIMIT_BYTES",
    "REGISTERS",
    "ARGUMENTS",
    "ERRNOS",
    "NO_REGISTER",
    "DATA_ALIGN_BYTES",
    "RECORD_LIMIT_BYTES",
    "HOOK_OUTPUT_BYTES",
    "EXIT_FAILED",
    "EXIT_REFUSED",
    "NO_OPERATION",
)


def defines(prefix: str, values: dict[str, int]) -> list[str]:
    """Spell a dict as macros, a blank line after them."""
    return [f"#define {prefix}{name} {value:#x}" for name, value in values.items()] + [""]


def used_calls() -> list[str]:
    """Name every system call that skerry-init makes by itself."""
    names = {name for row in ops.CALLS.values() for name in row}
    return sorted(names | set(ops.CALLS_OF_START) | set(ops.CALLS_OF_END))


def signature(name: str) -> str:
    """Spell an operation's arguments: least, most, and a bit mask of kinds for each place."""
    places = ops.OPS[name][1].split()
    any_kind = (ops.NUMBER, ops.DATA, ops.REGISTER)
    if places == ["args..."]:
        least, most, kinds = 0, ops.ARGUMENTS, [any_kind] * ops.ARGUMENTS
    else:
        most = len(places)
        least = most - places.count("keep")
        kinds = [ops.PLACES.get(place, (ops.NUMBER, ops.REGISTER)) for place in places]
    masks = [sum(1 << kind for kind in row) for row in kinds]
    masks += [0] * (ops.ARGUMENTS - len(masks))
    return f"\t[OP_{name}] = {{{least}, {most}, {{{', '.join(map(str, masks))}}}}},"


def header() -> str:
    """Build the text of ops.h."""
    lines = [HEAD]
    lines += defines("", {name: getattr(ops, name) for name in LIMITS})
    formats = {"HEADER": ops.HEADER_FORMAT, "OP": ops.OP_FORMAT, "RECORD": ops.RECORD_FORMAT}
    lines += defines("", {f"{name}_BYTES": struct.calcsize(row) for name, row in formats.items()})
    lines += defines("FAIL_", ops.FAIL)
    lines += defines("KIND_", ops.KIND)
    lines += defines("COMPARE_", ops.COMPARISONS)
    lines += defines("WALK_", ops.WALK)
    lines += defines("RECORD_", ops.RECORDS)
    lines += defines("REFUSED_", ops.REFUSALS)
    lines += defines("OP_", ops.CODES)
    lines += ["/* least and most arguments, kinds allowed at each place (bit 1 << kind) */"]
    lines += ["#define OP_SIGNATURES \\"]
    rows = [signature(name) for name in ops.OPS]
    lines += [f"{row} \\" for row in rows[:-1]] + [rows[-1], ""]
    for machine, column in abi.MACHINES.items():
        lines += [f"#if defined(__{machine}__)"]
        lines += [f"#define NR_{name} {abi.SYSCALLS[name][column]}" for name in used_calls()]
        lines += ["#endif", ""]
    lines += ["#endif", ""]
    return "\n".join(lines)


def main() -> int:
    text = header()
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text)
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
