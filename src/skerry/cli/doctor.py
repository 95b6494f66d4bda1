"""skerry doctor: say what this host can do, and how to mend what it cannot.

Runs in: doctor.   Imports: errors, jsonio, cli.options, cli.output; doctor; rich, if it is installed.
Source:  docs/install.md.
Never:   changes the host.
"""

import posix

from skerry.cli.options import Option, Verb
from skerry.cli.output import write_out
from skerry.errors import Error, UsageError
from skerry.jsonio import dumps_pretty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call
    from skerry.doctor import Finding

VERB = Verb(
    "check what this host can do",
    words="",
    least=0,
    most=0,
    options=(
        Option("isolation", "process or vm alone; default: both", value="kind"),
        Option("json", "print all findings as JSON", kind="flag"),
    ),
    about="Every check that fails comes with its remedy. The exit code is 0 if all that is asked for works, 2 if only "
    "VM isolation does not, else 1.",
    example="skerry doctor --isolation vm",
)

ALL_WORKS, NOTHING_WORKS, ONLY_PROCESS_WORKS = 0, 1, 2
TITLES = ("", "CHECK", "FOR", "FOUND")
# (it is there, it is needed) -> (mark, colour)
_MARKS = {
    (True, True): ("ok", "green"),
    (True, False): ("ok", "green"),
    (False, True): ("FAIL", "bold red"),
    (False, False): ("warn", "yellow"),
}


def main(call: "Call") -> int:
    from skerry import doctor

    wanted = call.options["isolation"]
    if wanted and wanted not in doctor.ISOLATIONS:
        raise UsageError(f'invalid isolation "{wanted}"')
    asked = (wanted,) if wanted else doctor.ISOLATIONS
    findings = doctor.examine(asked)
    works = {isolation: doctor.works(findings, isolation) for isolation in asked}
    if call.options["json"]:
        document = {**works, "checks": [found.to_json() for found in findings]}
        write_out(dumps_pretty(document) + b"\n")
    else:
        verdict = [
            f"{isolation} isolation {'works' if w else 'does not work'}"
            for isolation, w in works.items()
        ]
        write_out(_show(findings) + "".join(f"{line}\n" for line in verdict))
    if all(works.values()):
        return ALL_WORKS
    return ONLY_PROCESS_WORKS if works.get(doctor.PROCESS) else NOTHING_WORKS


def _rows(findings: "list[Finding]") -> "list[tuple[str, ...]]":
    """Mark, check, isolations, what was found with the remedy of what was not."""
    rows: list[tuple[str, ...]] = []
    for found in findings:
        check = found.check
        words = found.words if found.ok else f"{found.words}; {check.remedy}"
        mark = _MARKS[found.ok, check.needed][0]
        rows.append((mark, check.name, " ".join(check.isolations), words))
    return rows


def _show(findings: "list[Finding]") -> str:
    """As a table of rich at a terminal where it is installed; plain otherwise."""
    rows = _rows(findings)
    if posix.isatty(1):
        colours = [_MARKS[found.ok, found.check.needed][1] for found in findings]
        try:
            return _rich(rows, colours)
        except Error:
            pass
    table = [TITLES, *rows]
    widths = [max(len(row[column]) for row in table) + 2 for column in range(len(TITLES) - 1)]
    return "".join("".join(map(str.ljust, row, [*widths, 0])).rstrip() + "\n" for row in table)


def _rich(rows: "list[tuple[str, ...]]", colours: "list[str]") -> str:
    """Errors: Error without rich."""
    from skerry import optional

    text = optional.load("rich.text").Text
    table = optional.load("rich.table").Table(*TITLES, box=None)
    for (mark, *rest), colour in zip(rows, colours, strict=True):
        table.add_row(text(mark, style=colour), *map(text, rest))
    console = optional.load("rich.console").Console(force_terminal=True)
    with console.capture() as capture:
        console.print(table)
    return str(capture.get())
