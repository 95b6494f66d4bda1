"""skerry resume: let the processes of a paused container run again.

Runs in: resume.   Imports: cli.options.
Source:  runc resume; lifecycle.md 110.
Never:   touches another container.
"""

from skerry.cli.options import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call

VERB = Verb(
    "let the processes of a paused container run again",
    about="The other half of `skerry pause`.",
    example="skerry resume web",
)


def main(call: "Call") -> int:
    call.container().resume()
    return 0
