"""The page of the benchmark: what was measured, where, and how to measure it again.

Runs in: bench_start; pure but for the facts about the machine.   Imports: the standard library.
"""

import os
import platform
import statistics
from collections.abc import Iterable

HEAD = """# Benchmarks

Printed by `make bench`; do not edit. Repeat with

    {command}

Every figure comes from one run in which the runtimes took turns, so that whatever else the machine
did hit them alike. Trust the ratios; the milliseconds are of this machine. Each command's exit
status and effect was checked: a container that fails early would look fast. *Idle* means 150 ms of
quiet before each command, which is what a person or a quiet node sees: the kernel then lets the
first move into a cgroup wait for an RCU grace period.
"""


def milliseconds(values: Iterable[float]) -> float:
    return statistics.median(values) * 1000


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in open("/proc/cpuinfo")
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory_kib = int(open("/proc/meminfo").readline().split()[1])
    kernel = ".".join(platform.release().split(".")[:2])
    return f"{os.cpu_count()} x {model}, {memory_kib >> 20} GiB, Linux {kernel}"


def verbs(times: dict[str, dict[tuple[str, str], list[float]]], mode: str) -> str:
    """One row a command: medians, then ours divided by each other runtime's."""
    names = list(times)
    others = [name for name in names if name != "skerry"]
    rows = []
    for verb in dict.fromkeys(v for samples in times.values() for v, m in samples if m == mode):
        medians = {name: milliseconds(times[name][verb, mode]) for name in names}
        ratios = [f"{medians['skerry'] / medians[name]:.2f}" for name in others]
        rows.append([verb, *(f"{medians[name]:.2f}" for name in names), *ratios])
    return table(
        [f"{mode}, median", *(f"{n} ms" for n in names), *(f"of {n}" for n in others)], rows
    )


def sizes(pss: dict[str, list[int]]) -> str:
    rows = [[name, f"{statistics.median(found) / 1024:.3f}"] for name, found in pss.items()]
    return table(["a created container's process", "PSS, MiB"], rows)


def scale(found: dict[str, dict]) -> str:
    rows = []
    for name, facts in found.items():
        creates, edge = facts["create"], max(1, len(facts["create"]) // 10)
        first, last = milliseconds(creates[:edge]), milliseconds(creates[-edge:])
        rows.append(
            [
                f"{name}, {len(creates)} running",
                f"{first:.2f}",
                f"{last:.2f}",
                f"{last / first:.2f}",
                f"{milliseconds(facts['list']):.1f}",
            ]
        )
    return table(["", "create ms, first tenth", "last tenth", "ratio", "`list` of all, ms"], rows)


def load() -> str:
    """What else the machine did: a figure above the number of its CPUs makes all others doubtful."""
    return f"Load average at the end: {os.getloadavg()[1]:.1f}."


def page(command: str, versions: dict[str, str], rounds: int, parts: list[str]) -> str:
    about = "\n".join(f"* {name}: {version}" for name, version in versions.items())
    facts = f"\n{machine()}. {rounds} rounds. {load()}\n\n{about}\n\n"
    return HEAD.format(command=command) + facts + "\n".join(parts)
