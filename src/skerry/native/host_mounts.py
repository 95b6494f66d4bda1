"""Mount and unmount on the host, by skerry-init: Python has no function for either.

Runs in: a task shim's create and delete.   Imports: posix; native, plan.host_mounts.
Source:  plan/host_mounts.py.
Never:   follows a link at the end of the target, or leaves a half-mounted target behind.
"""


from skerry.errors import Error
from skerry.native import facts
from skerry.native.dialogue import Dialogue
from skerry.native.launch import launch_aside
from skerry.plan import host_mounts as recipe
from skerry.plan.build import Plan
from skerry.plan.request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Performance:
    """A plan at work in a process of its own. `fileno` is readable when `finish` does not wait."""

    __slots__ = ("_conversation", "_dialogue")

    def __init__(self, r: Request, plan: Plan, what: str) -> None:
        launched = launch_aside(plan, r, {}, what=what, limit="COMMAND")
        self._conversation = launched.conversation
        self._dialogue = Dialogue(launched, r, None)

    def fileno(self) -> int:
        return self._conversation.fileno()

    def finish(self) -> None:
        """Errors  InitError with the kernel's verdict."""
        try:
            self._dialogue.run()
        except BaseException:
            self._dialogue.abort()
            raise
        self._dialogue.close()


def mount(mounts: "list[dict[str, Any]]", target: str) -> None:
    """Mount all, or none.

    Shape   each has type, source, target (below `target`), options.
    Errors  SpecError, InitError with the kernel's verdict.
    """
    r = Request(facts.machine(), "", {}, None)
    plan = recipe.build(r, mounts, target)
    try:
        Performance(r, plan, f"mount {target}").finish()
    except Error:
        unmount(target)
        raise


def unmount(target: str) -> None:
    """Take away what is mounted at the target, all of it."""
    begin_unmount(target).finish()


def begin_unmount(target: str) -> Performance:
    """The same, without waiting: a file system may take its time to let go."""
    r = Request(facts.machine(), "", {}, None)
    return Performance(r, recipe.build_unmount(r, target), f"unmount {target}")
