"""Signals by name and number.

Runs in: kill (hot).   Imports: nothing.
Source:  asm-generic/signal.h, signal(7); the same numbers on x86_64 and aarch64. Real-time signals
         as glibc counts them: the first two of the kernel's are its own.
Never:   sends one.
"""

from skerry.errors import UsageError

NUMBERS = {
    "HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "BUS": 7, "FPE": 8, "KILL": 9,
    "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16,
    "CHLD": 17, "CONT": 18, "STOP": 19, "TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "XCPU": 24,
    "XFSZ": 25, "VTALRM": 26, "PROF": 27, "WINCH": 28, "IO": 29, "PWR": 30, "SYS": 31,
}  # fmt: skip
_ALIASES = {"IOT": 6, "CLD": 17, "POLL": 29, "UNUSED": 31}
RTMIN, RTMAX = 34, 64


def parse(text: str) -> int:
    """The number of `9`, `KILL`, `sigkill`, `RTMIN+3`, `SIGRTMAX-1`; 0 only asks.

    Errors  UsageError with the words of lifecycle 107.
    """
    word = text.upper().removeprefix("SIG") if text.isascii() else ""
    number = NUMBERS.get(word) or _ALIASES.get(word) or _real_time(word)
    if not number and 0 < len(text) <= 3 and text.isascii() and text.isdigit():
        number = int(text)
        if number > RTMAX:
            number = None
    if number is None:
        raise UsageError(f'unknown signal "{text}"')
    return number


def _real_time(word: str) -> "int | None":
    for start, sign, first in (("RTMIN", "+", RTMIN), ("RTMAX", "-", RTMAX)):
        if word == start:
            return first
        offset = word.removeprefix(start + sign)
        if offset != word and 0 < len(offset) <= 2 and offset.isdigit():
            number = first + int(sign + offset)
            return number if RTMIN <= number <= RTMAX else None
    return None


def name(number: int) -> str:
    """`SIGKILL`, `SIGRTMIN+3`, or the number itself where no name exists."""
    for word, value in NUMBERS.items():
        if value == number:
            return f"SIG{word}"
    if RTMIN <= number <= RTMAX:
        return f"SIGRTMIN+{number - RTMIN}" if number > RTMIN else "SIGRTMIN"
    return str(number)
