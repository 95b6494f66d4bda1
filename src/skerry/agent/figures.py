"""Figures of the guest, and of processes in it, for the host to show.

Runs in: the guest.   Imports: posix, time; linux.cgroupfs.
Source:  proc_pid_stat(5), proc_meminfo(5), proc_stat(5); the columns are those of `ps -ef`.
Never:   runs a program.
"""

import posix
import time

from skerry.errors import KernelError
from skerry.linux.cgroupfs import read_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_COMMAND_LIMIT = 1024
_TABLE_LIMIT = 1000  # rows; an answer must not be longer than a frame may be
_TICKS = posix.sysconf("SC_CLK_TCK")
_KIB = 1024


def machine() -> "dict[str, Any]":
    """Memory in bytes, time of the CPUs in nanoseconds since boot."""
    memory = {}
    for line in read_bytes("/proc/meminfo").decode().splitlines():
        name, _, rest = line.partition(":")
        memory[name] = int(rest.split()[0]) * _KIB
    busy = [int(field) for field in read_bytes("/proc/stat").split(b"\n", 1)[0].split()[1:]]
    user, nice, system, idle, iowait, irq, softirq, steal = busy[:8]
    tick_ns = 1_000_000_000 // _TICKS
    return {
        "memory": {
            "total": memory["MemTotal"],
            "free": memory["MemFree"],
            "available": memory["MemAvailable"],
        },
        "cpu": {
            "user": (user + nice) * tick_ns,
            "kernel": (system + irq + softirq) * tick_ns,
            "idle": (idle + iowait) * tick_ns,
            "steal": steal * tick_ns,
            "count": posix.sysconf("SC_NPROCESSORS_ONLN"),
        },
    }


def table(pids: "list[int]") -> "list[dict[str, Any]]":
    """A row for each process that is still there."""
    uptime_s = float(read_bytes("/proc/uptime").split()[0])
    booted = time.time() - uptime_s
    rows = []
    for pid in pids[:_TABLE_LIMIT]:
        try:
            rows.append(_row(pid, uptime_s, booted))
        except (KernelError, OSError):
            continue  # it has just ended
    return rows


def _row(pid: int, uptime_s: float, booted: float) -> "dict[str, Any]":
    text = read_bytes(f"/proc/{pid}/stat")
    name = text[text.index(b"(") + 1 : text.rindex(b")")]
    # From the state, field 3, on: parent at 4, terminal at 7, times at 14 and 15, start at 22.
    fields = text[text.rindex(b")") + 2 :].split()
    parent, terminal = int(fields[1]), int(fields[4])
    used_s = (int(fields[11]) + int(fields[12])) / _TICKS
    started_s = int(fields[19]) / _TICKS
    command = read_bytes(f"/proc/{pid}/cmdline").replace(b"\0", b" ").strip() or b"[%b]" % name
    age_s = max(uptime_s - started_s, 0.01)
    return {
        "uid": posix.stat(f"/proc/{pid}").st_uid,
        "pid": pid,
        "ppid": parent,
        "cpu": min(99, int(used_s * 100 / age_s)),
        "stime": time.strftime("%H:%M", time.gmtime(booted + started_s)),
        "tty": _terminal_name(terminal),
        "time": _clock(int(used_s)),
        "cmd": command[:_COMMAND_LIMIT].decode("utf-8", "replace"),
    }


def _terminal_name(number: int) -> str:
    """proc_pid_stat(5), tty_nr: the minor number in bits 31 to 20 and 7 to 0, the major one between."""
    major, minor = number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00
    return f"pts/{minor + (major - 136) * 256}" if 136 <= major <= 143 else "?"


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
