"""The limits of a process's cgroup, whichever version of cgroups the host has."""

from support import host


def memory_limit(pid: int) -> int:
    name = "memory.max" if host.is_v2() else "memory.limit_in_bytes"
    return int((host.cgroup_of(pid, "memory") / name).read_text())


def cpu_quota(pid: int) -> float:
    """Give the share of a processor that is allowed."""
    group = host.cgroup_of(pid, "cpu")
    if host.is_v2():
        quota, period = (group / "cpu.max").read_text().split()
    else:
        quota, period = ((group / f"cpu.cfs_{n}_us").read_text() for n in ("quota", "period"))
    return int(quota) / int(period)


def cpu_shares(pid: int) -> int:
    """Give the shares of version 1; a weight is what runtimes make of them, rounded down."""
    group = host.cgroup_of(pid, "cpu")
    if not host.is_v2():
        return int((group / "cpu.shares").read_text())
    weight = int((group / "cpu.weight").read_text())
    return next(n for n in range(2, 262145) if 1 + (n - 2) * 9999 // 262142 >= weight)


def memory_figures(pid: int) -> dict[str, int]:
    text = (host.cgroup_of(pid, "memory") / "memory.stat").read_text()
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}


def cpu_usage_ns(pid: int) -> int:
    if host.is_v2():
        return int((host.cgroup_of(pid, "cpu") / "cpu.stat").read_text().split()[1]) * 1000
    return int((host.cgroup_of(pid, "cpuacct") / "cpuacct.usage").read_text())
