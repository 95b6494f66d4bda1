"""skerry create-scratch: make a disk that takes what containers write.

Runs in: create-scratch.   Imports: errors, cli.call, cli.options.
Source:  runhcs create-scratch; lifecycle.md 122 to 124.
Never:   mounts the disk.
"""

from skerry.cli.call import from_here
from skerry.cli.options import Option, Verb, integer
from skerry.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call

VERB = Verb(
    "make a sparse scratch disk with an empty ext4",
    words="",
    least=0,
    most=0,
    options=(
        Option("destpath", "the file to make; required", value="file"),
        Option("sizeGB", "size in GB; 0 means 20", default="0", value="number"),
        Option(
            "cache-path",
            "copy this disk of 20 GB instead of formatting; made if it is not there",
            value="file",
        ),
        Option(
            "use-virtual-memory", "accepted: no virtual machine is needed to format", kind="flag"
        ),
    ),
    example="skerry create-scratch --destpath /srv/scratch.img --sizeGB 5",
)


def main(call: "Call") -> int:
    from skerry.disk import create_scratch

    options = call.options
    if not options["destpath"]:
        raise UsageError("'destpath' is required")
    try:
        size_gb = integer(options["sizeGB"])
    except ValueError as error:
        raise UsageError(f'invalid sizeGB "{options["sizeGB"]}": {error}', usage=True) from None
    if size_gb < 0:
        raise UsageError("sizeGB must be >= 0")
    create_scratch(
        from_here(options["destpath"]), size_gb=size_gb, cache=from_here(options["cache-path"])
    )
    return 0
