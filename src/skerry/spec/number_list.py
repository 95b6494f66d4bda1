"""Lists of numbers and ranges, as cpuset(7) writes them: `0-3,5`.

Runs in: create, run, exec, update (hot); pure.   Imports: spec.fields.
Source:  cpuset(7) "List format"; runtime-spec: cpu.cpus, cpu.mems, execCPUAffinity, memoryPolicy.nodes.
Never:   knows how many processors or memory nodes there are.
"""

from skerry.errors import SpecError
from skerry.spec.fields import show, text, wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DIGITS = 5


def check_list(value: "Any", pointer: str) -> None:
    """Take an empty list too."""
    text(value, pointer)
    for part in value.split(",") if value.strip() else ():
        low, dash, high = part.strip().partition("-")
        for number in (low, high) if dash else (low,):
            if not (number.isascii() and number.isdigit() and len(number) <= _DIGITS):
                raise wrong(value, pointer, "a list of numbers and ranges")
        if dash and int(low) > int(high):
            raise SpecError(pointer, f"{show(part)} counts backwards")


def bits(value: str) -> int:
    """The list as a mask: bit n stands for the number n.

    Shape   `value` has passed `check_list`.
    """
    mask = 0
    for part in value.split(",") if value.strip() else ():
        low, dash, high = part.partition("-")
        first = int(low)
        last = int(high) if dash else first
        mask |= (1 << last + 1) - (1 << first)
    return mask
