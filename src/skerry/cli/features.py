"""skerry features: print what this runtime supports on this host.

Runs in: features.   Imports: jsonio, cli.options, cli.output.
Source:  runc features; runtime-spec features.md.
Never:   claims what is not built.
"""

from skerry.cli.options import Verb
from skerry.cli.output import write_out
from skerry.jsonio import dumps_pretty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call

VERB = Verb(
    "print the features of this runtime as JSON",
    words="",
    least=0,
    most=0,
    example="skerry features | jq .linux.namespaces",
)


def main(call: "Call") -> int:
    from skerry.spec.features import features

    write_out(dumps_pretty(features(), 4) + b"\n")
    return 0
