"""How long skerry waits for whom.

Runs in: every verb (hot).   Imports: posix.
Source:  docs/lifecycle.md 60, 112, 128.
Never:   waits.

A process that others depend on while it waits can have them shortened for as long as it does so.
"""

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX = "SKERRY_TIMEOUT_"

# name -> (seconds, what has so long)
DEFAULTS = {
    "CREATE": (240, "the engine to build a container, a launched helper to answer"),
    "START": (240, "the engine to start it"),
    "PAUSE": (240, "the engine to freeze it"),
    "RESUME": (240, "the engine to thaw it"),
    "SAVE": (240, "the engine to write its memory"),
    "COMMAND": (240, "an external command"),
    "BOOT": (120, "a VM to boot up to its agent's first word"),
    "DEVICE": (10, "QEMU to answer, the guest to let go of a device"),
    "ANSWER": (120, "the guest to answer a request"),
    "STOP": (300, "a container in a guest to stop when it was asked to"),
    "KILL": (10, "the kernel to end what was killed"),
}


_ceiling_s = 0


def shorten(limit_s: int) -> None:
    """From now on no limit of this process is longer than this; 0: as they were."""
    global _ceiling_s
    _ceiling_s = limit_s


def seconds(name: str, *, warn: "Callable[[str], object] | None" = None) -> int:
    """The limit, or what the environment's SKERRY_TIMEOUT_<NAME> says instead.

    Units   whole seconds, more than 0; anything else is told to `warn`, and the default stays.
    """
    limit = _seconds(name, warn)
    return min(limit, _ceiling_s) if _ceiling_s else limit


def _seconds(name: str, warn: "Callable[[str], object] | None") -> int:
    limit = DEFAULTS[name][0]
    variable = PREFIX + name
    raw = posix.environ.get(variable.encode())
    if raw is None:
        return limit
    # isdigit of bytes knows ASCII alone; int() would take blanks, signs, underscores and the digits
    # of all alphabets.
    if raw.isdigit() and len(raw) <= 9 and int(raw) > 0:
        return int(raw)
    if warn is not None:
        text = raw.decode("utf-8", "backslashreplace")
        warn(f"{variable}={text} is not a number of seconds: {limit} it is")
    return limit
