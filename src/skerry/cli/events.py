"""skerry events: print what a container uses, at intervals, and its out-of-memory events.

Runs in: events.   Imports: errors, jsonio, cli.options, cli.output; the core.
Source:  runc events; Go's time.ParseDuration; lifecycle.md P.
Never:   reads a cgroup itself.
"""

from skerry.cli.options import Option, Verb
from skerry.cli.output import write_out
from skerry.errors import UsageError
from skerry.jsonio import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call

# The two-letter units come first: the unit of "5ms" is not s.
UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}

VERB = Verb(
    "print a container's usage and out-of-memory events",
    options=(
        Option("interval", "time between two lines of statistics", default="5s", value="duration"),
        Option("stats", "print the statistics once and end", kind="flag"),
    ),
    about="Each line is one JSON object with type (stats or oom), id and data.",
    example="skerry events --interval 1s web",
)


def main(call: "Call") -> int:
    from skerry.events import watch

    interval_s = duration(call.options["interval"])
    container = call.container()
    if interval_s <= 0:
        raise UsageError("duration interval must be greater than 0")
    for event in watch(container, interval_s=interval_s, stats_only=call.options["stats"]):
        write_out(dumps(event) + b"\n")
    return 0


def duration(text: str, /) -> float:
    """Read a duration as Go writes it: 300ms, 1.5h, 1m30s. Units: seconds."""
    rest, total = text.removeprefix("-"), 0.0
    try:
        while rest != "0":
            number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
            rest = rest[len(number) :]
            unit = next(unit for unit in UNITS_S if rest.startswith(unit))
            total += float(number) * UNITS_S[unit]
            rest = rest[len(unit) :]
            if not rest:
                break
    except (ValueError, StopIteration):
        raise UsageError(
            f'invalid value "{text}" for flag -interval: parse error', usage=True
        ) from None
    return -total if text.startswith("-") else total
