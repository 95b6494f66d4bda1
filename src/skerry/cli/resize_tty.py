"""skerry resize-tty: set the size of the terminal of a container's process.

Runs in: resize-tty.   Imports: errors, cli.options.
Source:  runhcs resize-tty; lifecycle.md 111.
Never:   looks for the terminal itself.
"""

from skerry.cli.options import Option, Verb, integer
from skerry.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call

SIZE_MAX = 65535

VERB = Verb(
    "set the size of a process's terminal",
    words="<container-id> <width> <height>",
    least=3,
    most=3,
    options=(
        Option(
            "pid",
            "pid of an exec as in its pid file; default: the container's init",
            letter="p",
            kind="word",
            value="pid",
        ),
    ),
    example="skerry resize-tty web 120 40",
)


def main(call: "Call") -> int:
    width, height = _number(call.words[1], SIZE_MAX), _number(call.words[2], SIZE_MAX)
    pid = None if call.options["pid"] is None else _number(call.options["pid"], 1 << 22)
    call.container().resize(width, height, pid=pid)
    return 0


def _number(text: str, most: int) -> int:
    try:
        number = integer(text)
    except ValueError:
        number = 0
    if not 1 <= number <= most:
        raise UsageError("invalid command usage", usage=True)
    return number
