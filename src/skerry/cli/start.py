"""skerry start: let the program of a created container run.

Runs in: start (hot).   Imports: cli.call, cli.options.
Source:  runc start; lifecycle.md 65, 66, 90, 131.
Never:   waits for the program's end, but where a manager wants to hear that it is ready (NOTIFY_SOCKET).
"""

from skerry.cli.call import notify_socket
from skerry.cli.options import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call

VERB = Verb(
    "run the program of a created container",
    about="Returns when the program runs. Errors of its start, and of startContainer and "
    "poststart hooks, end here. With NOTIFY_SOCKET in the environment it "
    "waits until the program says READY=1 by sd_notify, or has ended.",
    example="skerry start web",
)


def main(call: "Call") -> int:
    call.container().start(notify_socket=notify_socket())
    return 0
