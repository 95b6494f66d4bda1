"""skerry state: print the state of a container as the OCI state JSON.

Runs in: state (hot).   Imports: jsonio, cli.options, cli.output.
Source:  runc state; runtime-spec runtime.md "State"; lifecycle.md 101, 102.
Never:   changes anything.
"""

from skerry.cli.options import Verb
from skerry.cli.output import write_out
from skerry.jsonio import dumps_pretty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call

VERB = Verb(
    "print the state of a container as JSON",
    about="The status is creating, created, running, paused, stopped or unknown. It is derived "
    "from what is there, never "
    "read from a stored word.",
    example="skerry state web",
)


def main(call: "Call") -> int:
    write_out(dumps_pretty(call.container().state()) + b"\n")
    return 0
