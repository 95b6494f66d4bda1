"""skerry pause: suspend all processes of a container.

Runs in: pause.   Imports: cli.options.
Source:  runc pause; lifecycle.md 110.
Never:   touches another container.
"""

from skerry.cli.options import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call

VERB = Verb(
    "suspend all processes of a container",
    about="Until `skerry resume` no process of the container runs. Works on a created or running "
    "container.",
    example="skerry pause web",
)


def main(call: "Call") -> int:
    call.container().pause()
    return 0
