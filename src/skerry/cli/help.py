"""The pages of --help: the list of verbs by group, and one page for each verb.

Runs in: --help and wrong usage (off the hot path).   Imports: cli.options; textwrap, late.
Source:  the tables of the verbs; nothing is written twice.
Never:   writes.
"""

from skerry.cli.options import FLAGS, KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.options import Option, Verb

WIDTH = 100
INDENT = 4
# Options and their values fill this many columns, then comes what they mean.
COLUMN = 30

GROUPS = (
    ("Life of a container", ("create", "start", "run", "exec", "kill", "delete")),
    ("What is there", ("list", "state", "ps", "events")),
    ("While it runs", ("pause", "resume", "update", "resize-tty")),
    ("Before it runs", ("spec", "plan", "features", "create-scratch", "prepare-disk", "image", "template", "doctor")),
)

ABOUT = (
    "skerry runs containers from OCI bundles. A bundle is a directory with a config.json "
    "(`skerry spec` writes one to begin with) and a root file system. The verbs, their options and "
    "exit codes are runc's, so that engines can drive skerry in runc's place."
)
EXAMPLE = "cd /srv/hello && skerry spec && skerry run hello"


def overview(options: "tuple[Option, ...]", verbs: "dict[str, Verb]", /) -> str:
    parts = [usage("", None), _paragraph(ABOUT)]
    for title, names in GROUPS:
        parts.append(f"{title}:\n" + "".join(_row(name, verbs[name].summary) for name in names))
    parts.append("Global options, before the verb:\n" + "".join(map(_option, options)))
    parts.append("`skerry <verb> --help` tells about one verb.\n")
    parts.append(f"Example:\n{_indented(EXAMPLE)}")
    return "\n".join(parts)


def page(name: str, verb: "Verb", /) -> str:
    parts = [usage(name, verb), _paragraph(verb.summary[:1].upper() + verb.summary[1:] + ".")]
    if verb.about:
        parts.append("\n".join(map(_paragraph, verb.about.split("\n\n"))))
    if verb.options:
        parts.append("Options:\n" + "".join(map(_option, verb.options)))
    parts.append(f"Example:\n{_indented(verb.example)}")
    return "\n".join(parts)


def usage(name: str, verb: "Verb | None", /) -> str:
    if verb is None:
        return "Usage: skerry [global options] <verb> [options] [words]\n"
    return (
        " ".join(f"Usage: skerry {name} {'[options] ' if verb.options else ''}{verb.words}".split())
        + "\n"
    )


def _option(option: "Option") -> str:
    read_again = KINDS[option.kind][2]
    value = "" if option.kind in FLAGS else f" <{option.value or 'value'}>"
    default = f" (default: {option.default})" if option.default else ""
    again = " (may be given again)" if read_again else ""
    letter = f"-{option.letter}, " if option.letter else "    "
    return _row(f"{letter}--{option.name}{value}", option.help + default + again)


def _row(left: str, right: str) -> str:
    import textwrap

    lines = textwrap.wrap(right, WIDTH - INDENT - COLUMN, break_on_hyphens=False)
    # A name that leaves no blank before the column has a line of its own.
    head = [] if len(left) < COLUMN else [" " * INDENT + left]
    lefts = [*([] if head else [left]), *[""] * len(lines)]
    rows = [
        f"{' ' * INDENT}{name.ljust(COLUMN)}{line}"
        for name, line in zip(lefts, lines, strict=False)
    ]
    return "\n".join(head + rows) + "\n"


def _paragraph(text: str) -> str:
    import textwrap

    return textwrap.fill(text, WIDTH, break_on_hyphens=False) + "\n"


def _indented(text: str) -> str:
    return "".join(f"{' ' * INDENT}{line}\n" for line in text.splitlines())
