"""skerry list: show the containers of a root.

Runs in: list.   Imports: errors, jsonio, cli.options, cli.output.
Source:  runc list; lifecycle.md 103, 104. The columns are those of Go's tabwriter(12, 1, 3).
Never:   fails for one bad entry; reads a spec.
"""

from skerry.cli.options import Option, Verb
from skerry.cli.output import write_err, write_out
from skerry.errors import Error, NotFound, UsageError
from skerry.jsonio import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.cli.call import Call
    from skerry.container import Container
    from skerry.state.store import Store

VERB = Verb(
    "list containers",
    words="",
    least=0,
    most=0,
    options=(
        Option(
            "format", "form of the list: table or json", letter="f", default="table", value="format"
        ),
        Option("quiet", "print the ids only", letter="q", kind="flag"),
    ),
    example="skerry --root /run/containerd/runc/k8s.io list --format json",
)

# title -> key of the state
COLUMNS = {
    "ID": "id",
    "PID": "pid",
    "STATUS": "status",
    "BUNDLE": "bundle",
    "CREATED": "created",
    "OWNER": "owner",
}
WIDTH_MIN, PADDING = 12, 3


def main(call: "Call") -> int:
    form = call.options["format"]
    store = call.store()
    if call.options["quiet"]:
        write_out("".join(f"{id}\n" for id in sorted(store.ids())))
        return 0
    if form not in ("table", "json"):
        raise UsageError("invalid format option")
    states = [state for id in sorted(store.ids()) if (state := _state(call, store, id))]
    # Go prints an empty list as null, and that is what engines have been reading.
    write_out(table(states) if form == "table" else dumps(states or None) + b"\n")
    return 0


def _state(call: "Call", store: "Store", id: str) -> "dict[str, Any]":
    """The state of one container; empty if there is none to show."""
    from skerry.container import Container

    try:
        container = Container.load(store, id, log=call.log)
    except NotFound:
        return {}
    except Error as error:
        write_err(f"reading state for {id}: {error}\n")
        return {}
    try:
        return container.state()
    except NotFound:
        return {}
    except Error as error:
        write_err(f"reading status for {id}: {error}\n")
        return _without_status(container)


def _without_status(container: "Container") -> "dict[str, Any]":
    record = container.record
    return {
        "ociVersion": record.get("OciVersion") or "",
        "id": container.id,
        "pid": 0,
        "status": "",
        "bundle": record.get("Bundle") or "",
        "rootfs": record.get("Rootfs") or "",
        "created": record.get("Created") or "",
        "owner": record.get("Owner") or "",
    }


def table(states: "list[dict[str, Any]]", /) -> str:
    """Lay the states out in columns; the last one is not filled up."""
    rows = [list(COLUMNS), *([str(state[key]) for key in COLUMNS.values()] for state in states)]
    widths = [max(WIDTH_MIN, max(map(len, column)) + PADDING) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    return "".join("".join(map(str.ljust, row, widths)) + "\n" for row in rows)
