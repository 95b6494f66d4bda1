"""Mount and unmount on the host, by skerry-init: Python has no function for either.

Runs in: a task shim's create and delete.   Imports: posix; native, plan.host_mounts.
Source:  plan/host_mounts.py.
Never:   follows a link at the end of the target, or leaves a half-mounted target behind.
"""

import posix

from skerry import timeouts
from skerry.errors import Error
from skerry.native import facts
from skerry.native.dialogue import Dialogue
from skerry.native.launch import launch
from skerry.plan import host_mounts as recipe
from skerry.plan.build import Plan
from skerry.plan.request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def mount(mounts: "list[dict[str, Any]]", target: str) -> None:
    """Mount all, or none.

    Shape   each has type, source, target (below `target`), options.
    Errors  SpecError, InitError with the kernel's verdict.
    """
    r = Request(facts.machine(), "", {}, None)
    plan = recipe.build(r, mounts, target)
    try:
        _perform(r, plan, f"mount {target}")
    except Error:
        unmount(target)
        raise


def unmount(target: str) -> None:
    """Take away what is mounted at the target, all of it."""
    r = Request(facts.machine(), "", {}, None)
    _perform(r, recipe.build_unmount(r, target), f"unmount {target}")


def _perform(r: Request, plan: Plan, what: str) -> None:
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    try:
        fds = {0: null, 1: null, 2: null}
        launched = launch(plan, r, fds, what=what, limit_s=timeouts.seconds("COMMAND"))
    finally:
        posix.close(null)
    dialogue = Dialogue(launched, r, None)
    try:
        dialogue.run()
    except BaseException:
        dialogue.abort()
        raise
    dialogue.close()
