"""skerry delete: remove a container and all that was made for it.

Runs in: delete (hot).   Imports: cli.options.
Source:  runc delete; lifecycle.md K.
Never:   knows what a container is made of.
"""

from skerry.cli.options import Option, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call

VERB = Verb(
    "remove a container and everything made for it",
    options=(
        Option(
            "force",
            "kill the container first if it runs; an unknown id is no error",
            letter="f",
            kind="flag",
        ),
    ),
    about="A stopped or created container is removed. What could not be released stays written "
    "down: delete can be run "
    "again and does what is left.",
    example="skerry delete --force web",
)


def main(call: "Call") -> int:
    from skerry.container import delete

    delete(call.store(), call.id(), force=call.options["force"], log=call.log)
    return 0
