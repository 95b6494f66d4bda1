"""skerry delete: remove a container and all that was made for it.

Runs in: delete (hot).   Imports: errors, cli.options.
Source:  runc delete; lifecycle.md K.
Never:   knows what a container is made of.
"""

from skerry.cli.options import Option, Verb
from skerry.errors import NoSuchKey

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

    store, id, force = call.store(), call.id(), call.options["force"]
    try:
        delete(store, id, force=force, log=call.log)
    except NoSuchKey:
        # An id without a record: its creator died in its first step. The id goes, and the exit code
        # says that there was no container (lifecycle 114).
        delete(store, id, force=True, log=call.log)
        raise
    return 0
