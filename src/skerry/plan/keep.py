"""The recipe for a keeper: a parked skerry-init that holds open files for whoever fetches them.

Runs in: template builder; pure.   Imports: plan.
Source:  pidfd_getfd(2); docs/vm.md "Templates".
Never:   reads or changes what it keeps.
"""

from skerry.plan import begin
from skerry.plan.build import Plan
from skerry.plan.request import Request

FIRST_FD = 3


def build(r: Request, files: "list[str]") -> Plan:
    """Keep the files open until SIGTERM.

    Shape   starts with fds 0-2, the files from 3 up (`r.preserve` of them, at most five), plan and conversation.
    """
    p = Plan(r.machine)
    for number, what in enumerate(files, FIRST_FD):
        p.fds[number] = what
    begin.begin(p, r, last_fd=r.conversation_fd, name="skerry:keeper")
    begin.wait_for(p, "our pid to be on record")
    begin.park(p, "keep them", spared=range(FIRST_FD, FIRST_FD + len(files)))
    return p
