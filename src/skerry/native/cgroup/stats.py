"""The figures of a container, in the shape of runc's `events --stats`.

Runs in: events.   Imports: .stats_v1 .stats_v2.
Source:  types/events.go of runc 1.1 for names and for what is left out when it is zero.
Never:   fails because one figure cannot be had: a file that is missing counts as zero.
"""

from skerry.native.cgroup import stats_v1, stats_v2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.native.cgroup.group import Cgroup

# key, controller of v1, controller of v2; the readers have the name of the key
_PARTS = (
    ("cpu", "cpuacct", "cpu"),
    ("cpuset", "cpuset", "cpuset"),
    ("memory", "memory", "memory"),
    ("pids", "pids", "pids"),
    ("blkio", "blkio", "io"),
    ("hugetlb", "hugetlb", "hugetlb"),
)


def read(group: "Cgroup", /) -> "dict[str, Any]":
    """Read all. Shape   cpu cpuset memory pids blkio hugetlb intel_rdt network_interfaces."""
    figures: dict[str, object] = {}
    for key, one, two in _PARTS:
        if one in group.paths and not group.is_v2(one):
            figures[key] = getattr(stats_v1, key)(group)
        else:
            figures[key] = getattr(stats_v2, key)(group.paths.get(two) or group.paths.get("", ""))
    figures["intel_rdt"] = {}
    figures["network_interfaces"] = None
    return figures
