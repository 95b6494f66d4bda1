"""skerry template: show the saved machines of vm isolation, or give them up.

Runs in: template.   Imports: errors, jsonio, cli.options, cli.output; vm.template.
Source:  docs/vm.md "Templates".
Never:   touches a machine that came from one.
"""

from skerry.cli.options import Option, Verb
from skerry.cli.output import write_out
from skerry.errors import UsageError
from skerry.jsonio import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.cli.call import Call

VERB = Verb(
    "list or destroy the saved machines of vm isolation",
    words="list|destroy [key...]",
    least=1,
    most=None,
    options=(
        Option(
            "format", "form of the list: table or json", letter="f", default="table", value="format"
        ),
        Option("quiet", "print keys only", letter="q", kind="flag"),
        Option("all", "destroy all", letter="a", kind="flag"),
    ),
    about="The first VM of a kind boots once, and is saved; others of the kind, and of the same user, start from there "
    "in a tenth of a second. Each keeps the memory of a booted guest. Destroying one changes nothing for VMs that run; "
    "the next one of the kind makes it anew.",
    example="skerry template destroy --all",
)

COLUMNS = ("KEY", "PROFILE", "MB", "CPUS", "ACCELERATOR", "PID", "KERNEL")


def main(call: "Call") -> int:
    action, *keys = call.words
    if action == "list" and not keys:
        return _list(call)
    if action == "destroy" and bool(keys) != call.options["all"]:
        return _destroy(call, keys)
    raise UsageError("list takes no key; destroy takes some, or --all", usage=True)


def _root(call: "Call") -> str:
    from skerry.paths import run_root

    return run_root(call.general["root"])


def _list(call: "Call") -> int:
    from skerry.vm import template

    form = call.options["format"]
    if form not in ("table", "json"):
        raise UsageError("invalid format option")
    rows = template.list_all(_root(call))
    if call.options["quiet"]:
        write_out("".join(f"{row['key']}\n" for row in rows))
    elif form == "json":
        write_out(dumps(rows) + b"\n")
    else:
        write_out(_table(rows))
    return 0


def _destroy(call: "Call", keys: "list[str]") -> int:
    from skerry.vm import template

    root = _root(call)
    for key in keys or [row["key"] for row in template.list_all(root)]:
        template.destroy(root, key)
        if not call.options["quiet"]:
            write_out(f"{key}\n")
    return 0


def _table(rows: "list[dict[str, Any]]") -> str:
    table = [COLUMNS]
    for row in rows:
        pid = str(row["pid"]) if row["alive"] else "gone"
        facts = (
            str(row.get(name, "")) for name in ("profile", "memory_mib", "vcpus", "accelerator")
        )
        table.append((row["key"], *facts, pid, str(row.get("kernel", ""))))
    widths = [max(map(len, column)) + 3 for column in zip(*table, strict=True)]
    return "".join("".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in table)
