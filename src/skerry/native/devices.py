"""Put another device filter on a container's cgroup (v2), while it runs.

Runs in: update.   Imports: posix; native, plan.limits.
Source:  docs/lifecycle.md 131; plan/limits.py.
Never:   leaves the cgroup without a filter, or with two.
"""

import posix

from skerry import timeouts
from skerry.native import facts
from skerry.native.cgroup.group import Cgroup
from skerry.native.dialogue import Dialogue
from skerry.native.launch import launch
from skerry.plan import limits as recipe
from skerry.plan.request import Request


def replace_filter(cgroup: Cgroup, program: bytes, id: str, pointer: str) -> None:
    """Let the program decide about devices from now on; the old one does until then.

    Errors  InitError at `pointer`.
    """
    r = Request(facts.machine(), id, {}, None)
    r.device_program = program
    plan = recipe.build_replacement(r, pointer)
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    cgroup_fd = cgroup.join_fd()
    try:
        fds = {0: null, 1: null, 2: null, r.gate_fd: cgroup_fd}
        limit = timeouts.seconds("START")
        launched = launch(plan, r, fds, what=f"change the devices of {id}", limit_s=limit)
    finally:
        posix.close(null)
        posix.close(cgroup_fd)
    dialogue = Dialogue(launched, r, None)
    try:
        dialogue.run()
    except BaseException:
        dialogue.abort()
        raise
    dialogue.close()
