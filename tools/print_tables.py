"""Prints the tables of the documents from the code, between `<!-- table NAME -->` and `<!-- end -->`.

Runs in: `make docs` (writes), tests/style/test_tables.py (compares).   Imports: skerry, the layers.
Never:   writes a sentence; those are written by hand around the tables.
"""

import re
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TOP / "src"), str(TOP / "tests/style")]
MARK = re.compile(r"(<!-- table ([a-z-]+) -->\n).*?(<!-- end -->)", re.S)


def table(*rows: tuple[str, ...]) -> str:
    """Rows of cells, the first one the head."""
    lines = [rows[0], ("---",) * len(rows[0]), *rows[1:]]
    return "".join("| " + " | ".join(c.replace("|", "\\|") for c in line) + " |\n" for line in lines)


def layers() -> str:
    from layers import LAYERS

    rows = [
        (f"L{number}", f"`{name}`", what)
        for number, parts in enumerate(LAYERS)
        for name, what in parts
        if (TOP / "src/skerry" / name).is_dir() or (TOP / f"src/skerry/{name}.py").exists()
    ]
    return table(("layer", "part", "what it is"), *reversed(rows))


def operations() -> str:
    from skerry.plan.ops import OPS

    rows = [
        (str(code), f"`{name}`", arguments, effect, why)
        for name, (code, arguments, effect, why) in OPS.items()
    ]
    return table(("code", "name", "arguments", "what it does", "why a system call will not do"), *rows)


def statuses() -> str:
    from skerry.state.status import STATUSES

    return table(("status", "when"), *((f"`{name}`", why) for name, why in STATUSES.items()))


def verbs() -> str:
    from skerry.state.status import STATUSES, VERBS

    rows = [
        (verb, ", ".join(allowed), *refusals(words, otherwise, set(STATUSES) - set(allowed)))
        for verb, (allowed, words, otherwise) in VERBS.items()
    ]
    return table(("verb", "allowed in", "otherwise"), *rows)


def refusals(words: dict[str, str], otherwise: str, refused: set[str]) -> tuple[str]:
    special = [f"{status}: `{text}`" for status, text in words.items()]
    rest = [f"`{otherwise}`"] if refused - set(words) else []
    return ("; ".join(special + rest),)


def keys() -> str:
    from skerry.state.store import KEYS

    rows = [(f"`{key}`", *facts) for key, facts in KEYS.items()]
    return table(("key", "what it holds", "who writes it, when", "who clears it"), *rows)


def timeouts() -> str:
    from skerry.timeouts import DEFAULTS, PREFIX

    rows = [(f"`{PREFIX}{name}`", str(s), what) for name, (s, what) in DEFAULTS.items()]
    return table(("variable", "seconds", "what has so long"), *rows)


def unsupported() -> str:
    from skerry.spec.unsupported import MOUNT_OPTIONS, PROPERTIES

    rows = [
        (f"`{where}.{name}`", why)
        for where, properties in PROPERTIES.items()
        for name, why in properties.items()
    ]
    rows += [(f"mount option `{name}`", why) for name, why in MOUNT_OPTIONS.items()]
    return table(("property", "answer"), *rows)


def errors() -> str:
    from skerry import errors as module

    tree = (module.__doc__ or "").partition("\n\n")[2].partition("\n\n")[2].partition("\n\n")[0]
    return f"```\n{tree.rstrip()}\n```\n"


def help_pages() -> str:
    """The command line's own help."""
    from skerry.cli.help import overview, page
    from skerry.cli.main import GLOBAL_OPTIONS, VERBS

    tables = {
        verb: __import__(f"skerry.cli.{module}", fromlist=("VERB",)).VERB
        for verb, module in VERBS.items()
    }
    parts = [f"```\n{overview(GLOBAL_OPTIONS, tables).rstrip()}\n```\n"]
    for verb, about in tables.items():
        parts.append(f"\n## {verb}\n\n```\n{page(verb, about).rstrip()}\n```\n")
    return "".join(parts)


def forbidden() -> str:
    from test_forbidden import CALLS, IMPORTS

    rows = [
        (", ".join(f"`{name}`" for name in sorted(names)), why)
        for names, _, why in CALLS.values()
    ]
    rows += [
        (f"`import {name}`" + (f" ({where})" if where else ""), why)
        for name, (where, why) in IMPORTS.items()
    ]
    return table(("not used", "why"), *rows)


TABLES = {
    "layers": layers,
    "operations": operations,
    "statuses": statuses,
    "verbs": verbs,
    "keys": keys,
    "timeouts": timeouts,
    "unsupported": unsupported,
    "errors": errors,
    "help": help_pages,
    "forbidden": forbidden,
}


def documents() -> list[Path]:
    found = [*TOP.glob("*.md"), *TOP.glob("docs/**/*.md")]
    return [path for path in sorted(found) if "<!-- table " in path.read_text()]


def printed(text: str) -> str:
    return MARK.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def stale() -> list[str]:
    """The documents whose tables are not what the code says."""
    return [
        str(path.relative_to(TOP))
        for path in documents()
        if path.read_text() != printed(path.read_text())
    ]


if __name__ == "__main__":
    for path in documents():
        path.write_text(printed(path.read_text()))
