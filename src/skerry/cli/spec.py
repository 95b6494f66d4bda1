"""skerry spec: write a config.json to begin with.

Runs in: spec.   Imports: posix, errors, jsonio, paths, cli.options, cli.output.
Source:  runc spec; lifecycle.md P.
Never:   overwrites a file.
"""

import posix

from skerry.cli.options import Option, Verb
from skerry.cli.output import write_all
from skerry.errors import Error, KernelError, UsageError
from skerry.jsonio import dumps_pretty
from skerry.paths import CONFIG, absolute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call

VERB = Verb(
    "write a config.json to begin with",
    words="",
    least=0,
    most=0,
    options=(
        Option(
            "bundle",
            "directory to write it to; default: the current directory",
            letter="b",
            value="dir",
        ),
        Option(
            "rootless",
            "for a container without root: a user namespace, and nothing that needs privilege",
            kind="flag",
        ),
        Option("isolation", "process or vm; vm writes a vm section", value="kind"),
    ),
    about="The file runs `sh` in the directory rootfs beside it, with a terminal. An existing "
    "file is never touched.",
    example="skerry spec --bundle /srv/hello",
)


def main(call: "Call") -> int:
    from skerry.spec.defaults import default_spec

    path = f"{absolute(call.options['bundle'] or '.')}/{CONFIG}"
    isolation = call.options["isolation"]
    if isolation not in ("", "process", "vm"):
        raise UsageError(f'invalid isolation "{isolation}"')
    spec = default_spec(rootless=call.options["rootless"], vm=isolation == "vm")
    data = dumps_pretty(spec) + b"\n"
    try:
        fd = posix.open(
            path, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o666
        )
    except FileExistsError:
        raise Error(f"File {CONFIG} exists. Remove it first") from None
    except OSError as error:
        raise KernelError("create", path, error.errno or 0) from error
    try:
        write_all(fd, data)
    except OSError as error:
        posix.unlink(path)
        raise KernelError("write", path, error.errno or 0) from error
    finally:
        posix.close(fd)
    return 0
