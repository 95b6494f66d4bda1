"""skerry update: change the limits of a container.

Runs in: update.   Imports: errors, cli.options; spec.load.
Source:  runc update; docker's go-units for sizes; runtime-spec config-linux.md "Control groups".
Never:   knows how a limit is set, or which limits this host has.
"""

from skerry.cli.options import Option, Verb, count, integer
from skerry.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skerry.cli.call import Call

UNLIMITED = "-1"
SIZE_UNITS = "kmgtp"


def size(text: str, /) -> int:
    """Read a size in bytes: a number, maybe broken, with k, m, g, t or p for powers of 1024; -1 is
    no limit.

    Errors  ValueError.
    """
    if text == UNLIMITED:
        return -1
    # 64m, 64M, 64mb, 64MiB, "1.5 g"
    number = text.lower().removesuffix("b")
    number = number.removesuffix("i") if number[-2:-1] in tuple(SIZE_UNITS) else number
    power = SIZE_UNITS.find(number[-1:]) + 1 if number else 0
    whole, _, part = (number[:-1] if power else number).removesuffix(" ").partition(".")
    if (
        not (whole + part).isascii()
        or not whole.isdigit()
        or not (part or "0").isdigit()
        or len(whole + part) > 19
    ):
        raise ValueError(f"invalid size: '{text}'")
    return int(float(f"{whole}.{part or 0}") * 1024**power) if part else int(whole) * 1024**power


# option -> (section of the resources, property, how the text is read). Zero is "not given", as in
# runc.
LIMITS: "dict[str, tuple[str, str, Callable[[str], Any]]]" = {
    "blkio-weight": ("blockIO", "weight", count),
    "cpu-period": ("cpu", "period", count),
    "cpu-quota": ("cpu", "quota", integer),
    "cpu-burst": ("cpu", "burst", count),
    "cpu-share": ("cpu", "shares", count),
    "cpu-rt-period": ("cpu", "realtimePeriod", count),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime", integer),
    "cpu-idle": ("cpu", "idle", integer),
    "cpuset-cpus": ("cpu", "cpus", str),
    "cpuset-mems": ("cpu", "mems", str),
    "memory": ("memory", "limit", size),
    "memory-reservation": ("memory", "reservation", size),
    "memory-swap": ("memory", "swap", size),
    "pids-limit": ("pids", "limit", integer),
}
# Zero means something here: the idle policy off, the burst away.
ZERO_COUNTS = ("cpu-idle", "cpu-burst")
KERNEL_MEMORY = ("kernel-memory", "kernel-memory-tcp")
RDT = ("l3-cache-schema", "mem-bw-schema")

VERB = Verb(
    "change the limits of a container",
    options=(
        Option(
            "resources",
            "file with the resources object of config.json, - for standard input; then the other "
            "options "
            "are not used",
            letter="r",
            value="file",
        ),
        Option("blkio-weight", "weight of block I/O, 10 to 1000", value="N"),
        Option("cpu-period", "CFS period", value="usec"),
        Option(
            "cpu-quota", "CFS quota: time in each period; alone it keeps the period", value="usec"
        ),
        Option("cpu-burst", "time of unused quota that may be saved up", value="usec"),
        Option("cpu-share", "relative weight of CPU time", value="N"),
        Option("cpu-rt-period", "realtime period", value="usec"),
        Option("cpu-rt-runtime", "realtime runtime in each period", value="usec"),
        Option("cpu-idle", "1: run only when the CPU is otherwise idle; 0: not so", value="N"),
        Option("cpuset-cpus", "CPUs to use", value="list"),
        Option("cpuset-mems", "memory nodes to use", value="list"),
        Option(
            "kernel-memory",
            "ignored with a warning: the kernel has no such limit any more",
            value="bytes",
        ),
        Option(
            "kernel-memory-tcp",
            "ignored with a warning: the kernel has no such limit any more",
            value="bytes",
        ),
        Option("memory", "memory limit; k, m, g may follow, -1 is none", value="bytes"),
        Option("memory-reservation", "soft memory limit", value="bytes"),
        Option("memory-swap", "limit of memory and swap together; -1 is none", value="bytes"),
        Option("pids-limit", "most processes; -1 is no limit", value="N"),
        Option("l3-cache-schema", "refused: Intel RDT is not supported", value="schema"),
        Option("mem-bw-schema", "refused: Intel RDT is not supported", value="schema"),
    ),
    about="What is not given keeps its value. If a limit cannot be set, those already set are "
    "put back.",
    example="skerry update --memory 256m --pids-limit 100 web",
)


def main(call: "Call") -> int:
    container = call.container()
    options = call.options
    if options["resources"]:
        from skerry.spec.load import load_resources

        container.update(load_resources(options["resources"]))
        return 0
    for name in RDT:
        if options[name]:
            raise UsageError(f"cannot use --{name}: Intel RDT is not supported")
    if any(options[name] for name in KERNEL_MEMORY):
        call.log.warning("Kernel memory settings are ignored and will be removed")
    container.update(resources(options))
    return 0


def resources(options: "dict[str, Any]", /) -> "dict[str, Any]":
    """The resources object that the options stand for, with only what was given."""
    result: dict[str, Any] = {}
    for name, (section, key, read) in LIMITS.items():
        text = options[name]
        if not text:
            continue
        try:
            value = read(text)
        except ValueError as error:
            raise UsageError(f"invalid value for {name}: {_reason(text, error)}") from None
        if value != 0 or name in ZERO_COUNTS:
            result.setdefault(section, {})[key] = value
    return result


def _reason(text: str, error: ValueError) -> str:
    return str(error) if text in str(error) else f"{error}: '{text}'"
