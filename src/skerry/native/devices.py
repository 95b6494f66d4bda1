"""Put another device filter on a container's cgroup (v2), while it runs.

Runs in: update.   Imports: posix; native, plan.limits.
Source:  docs/lifecycle.md 131; plan/limits.py.
Never:   leaves the cgroup without a filter, or with two.
"""

import posix

from skerry.native import facts
from skerry.native.cgroup.group import Cgroup
from skerry.native.dialogue import Dialogue
from skerry.native.launch import launch_aside
from skerry.plan import limits as recipe
from skerry.plan.request import Request


def replace_filter(cgroup: Cgroup, program: bytes, id: str, pointer: str) -> None:
    """Let the program decide about devices from now on; the old one does until then.

    Errors  InitError at `pointer`.
    """
    r = Request(facts.machine(), id, {}, None)
    r.device_program = program
    plan = recipe.build_replacement(r, pointer)
    cgroup_fd = cgroup.join_fd()
    try:
        what = f"change the devices of {id}"
        launched = launch_aside(plan, r, {r.gate_fd: cgroup_fd}, what=what, limit="START")
    finally:
        posix.close(cgroup_fd)
    dialogue = Dialogue(launched, r, None)
    try:
        dialogue.run()
    except BaseException:
        dialogue.abort()
        raise
    dialogue.close()
