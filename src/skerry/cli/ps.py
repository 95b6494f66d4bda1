"""skerry ps: show the processes of a container.

Runs in: ps.   Imports: posix, errors, jsonio, cli.options, cli.output; subprocess, late.
Source:  runc ps; lifecycle.md 105.
Never:   finds ps through the caller's PATH (security.md V27).
"""

import posix

from skerry.cli.options import Option, Verb
from skerry.cli.output import write_out
from skerry.errors import Error, UsageError
from skerry.jsonio import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call
    from skerry.container import Container

PROGRAMS = ("/usr/bin/ps", "/bin/ps")
DEFAULT_OPTIONS = ("-ef",)
# In a VM: the agent's names of the columns of ps -ef
TITLE = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
COLUMNS = ("uid", "pid", "ppid", "cpu", "stime", "tty", "time", "cmd")

VERB = Verb(
    "show the processes of a container",
    words="<container-id> [ps options]",
    most=None,
    options=(
        Option(
            "format",
            "table (as ps prints it) or json (an array of pids)",
            letter="f",
            default="table",
            value="format",
        ),
    ),
    words_end_options=True,
    about="The pids are the host's, or for a container in a VM the guest's, and then there are no "
    "options. What follows the id goes to ps, whose output must have a PID "
    "column; "
    f"default: {' '.join(DEFAULT_OPTIONS)}.",
    example="skerry ps web -o pid,rss,args",
)


def main(call: "Call") -> int:
    form = call.options["format"]
    container = call.container()
    if form == "json":
        write_out(dumps(container.processes() or None) + b"\n")
    elif form == "table":
        write_out(_table(container, call.words[1:]))
    else:
        raise UsageError("invalid format option")
    return 0


def _table(container: "Container", options: "list[str]") -> str:
    """As the host's ps prints it; in a VM the guest tells, in the form of `ps -ef`."""
    rows = container.process_table()
    if rows is None:
        return choose(_ps(options or list(DEFAULT_OPTIONS)), set(container.processes()))
    if options and options != list(DEFAULT_OPTIONS):
        raise UsageError(
            f"cannot pass {' '.join(options)} to ps: the processes of a VM are the guest's",
            hint="leave the options out, or use --format json",
        )
    lines = [TITLE, *([row.get(key, "") for key in COLUMNS] for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(COLUMNS) - 1)]
    return "".join(
        " ".join([*(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=False)), line[-1]]) + "\n"
        for line in lines
    )


def _ps(options: "list[str]") -> str:
    import subprocess

    program = next((path for path in PROGRAMS if posix.access(path, posix.X_OK)), "")
    if not program:
        raise Error(
            f"cannot run ps: {PROGRAMS[0]} is not there",
            hint="install procps, or use --format json",
        )
    done = subprocess.run(
        [program, *options], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode:
        said = _text(done.stdout + done.stderr).strip()
        raise Error(f"cannot run ps: exit status {done.returncode}: {said}")
    return _text(done.stdout)


def _text(output: bytes) -> str:
    return output.decode("utf-8", "surrogateescape")


def choose(output: str, pids: "set[int]", /) -> str:
    """Keep the title of ps's output and the lines whose PID is one of these."""
    title, *lines = output.splitlines() or [""]
    titles = title.split()
    if "PID" not in titles:
        raise Error("couldn't find PID field in ps output")
    position = titles.index("PID")
    kept = [title]
    for line in lines:
        fields = line.split()
        if len(fields) > position and fields[position].isdigit() and int(fields[position]) in pids:
            kept.append(line)
    return "\n".join(kept) + "\n"
