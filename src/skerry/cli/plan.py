"""skerry plan: print what create would do, before anything happens.

Runs in: plan.   Imports: jsonio, paths, cli.options, cli.output.
Source:  design.md "The plan and skerry-init".
Never:   changes anything.
"""

from skerry.cli.options import Option, Verb
from skerry.cli.output import write_out
from skerry.jsonio import dumps_pretty
from skerry.paths import absolute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call

VERB = Verb(
    "print every step that create would take",
    words="",
    least=0,
    most=0,
    options=(
        Option(
            "bundle",
            "directory with config.json; default: the current directory",
            letter="b",
            value="dir",
        ),
        Option("json", "print it as JSON", kind="flag"),
    ),
    about="The plan is the list of system calls that skerry-init performs for this bundle, each "
    "with the step it belongs "
    "to and the place in config.json that asked for it. Nothing is changed on the machine.",
    example="skerry plan --bundle /srv/hello",
)


def main(call: "Call") -> int:
    from skerry.native.preview import plan_of
    from skerry.plan import show

    plan, doubts = plan_of(absolute(call.options["bundle"] or "."))
    if call.options["json"]:
        write_out(dumps_pretty(show.as_json(plan, doubts)) + b"\n")
    else:
        write_out(show.text(plan, doubts))
    return 0
