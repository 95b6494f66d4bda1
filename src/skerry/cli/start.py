"""skerry start: let the program of a created container run.

Runs in: start (hot).   Imports: cli.options.
Source:  runc start; lifecycle.md 65, 66, 90.
Never:   waits for the program's end.
"""

from skerry.cli.options import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call

VERB = Verb(
    "run the program of a created container",
    about="Returns when the program runs. Errors of its start, and of startContainer and "
    "poststart hooks, end here.",
    example="skerry start web",
)


def main(call: "Call") -> int:
    call.container().start()
    return 0
