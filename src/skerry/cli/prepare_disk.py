"""skerry prepare-disk: format a disk for containers.

Runs in: prepare-disk.   Imports: errors, cli.call, cli.options.
Source:  runhcs prepare-disk; lifecycle.md 125.
Never:   mounts the disk.
"""

from skerry.cli.call import from_here
from skerry.cli.options import Option, Verb
from skerry.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call

VERB = Verb(
    "format a disk or an image file with ext4",
    words="",
    least=0,
    most=0,
    options=(Option("destpath", "the disk or file to format; required", value="path"),),
    about="What is on it is lost. A disk that is mounted or otherwise in use is refused.",
    example="skerry prepare-disk --destpath /dev/sdb",
)


def main(call: "Call") -> int:
    from skerry.disk import prepare_disk

    if not call.options["destpath"]:
        raise UsageError("'destpath' is required")
    prepare_disk(from_here(call.options["destpath"]))
    return 0
