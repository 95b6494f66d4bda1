"""Keep a sandbox's network namespace beyond the life of its init.

Runs in: create of a sandbox.   Imports: posix; linux, native, plan.hold, state.journal.
Source:  docs/lifecycle.md 39; docs/decisions/0001.
Never:   mounts a namespace file; the holder's process is what keeps it.
"""

import posix

from skerry.linux import abi
from skerry.native import facts
from skerry.native.dialogue import Dialogue
from skerry.native.launch import launch_aside
from skerry.plan import hold as recipe
from skerry.plan.build import Plan
from skerry.plan.request import Request
from skerry.state.journal import Journal


def hold(journal: Journal, init_pidfd: int, id: str) -> int:
    """Start a holder for the network namespace of init; its pid.

    It is on record before it can do anything.
    """
    r = Request(facts.machine(), id, {}, None)
    r.join = abi.CLONE_NEWNET
    return _launch(journal, r, recipe.build(r), {r.gate_fd: init_pidfd})


def make_network(journal: Journal, id: str) -> int:
    """Start a holder with a network namespace of its own; its pid."""
    r = Request(facts.machine(), id, {}, None)
    return _launch(journal, r, recipe.build(r, new=abi.CLONE_NEWNET), {})


def _launch(journal: Journal, r: Request, plan: Plan, more: "dict[int, int]") -> int:
    launched = launch_aside(plan, r, more, what="hold the network namespace")
    dialogue = Dialogue(launched, r, None)
    try:
        journal.add({**launched.item, "kind": "holder"})
        dialogue.run()
        dialogue.finish()
    except BaseException:
        dialogue.abort()
        raise
    launched.conversation.close()
    posix.close(launched.pidfd)
    return launched.pid
