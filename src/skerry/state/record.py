"""The key `state`: what must be in it before any verb relies on it.

Runs in: every verb (hot).   Imports: errors.
Source:  docs/lifecycle.md 43; creation.py writes it.
Never:   mends a record: what is damaged can only be deleted.
"""

from skerry.errors import DamagedKey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.state.store import Store

KEY = "state"
# name -> type, of what every verb needs
FIELDS = {
    "ID": str,
    "Bundle": str,
    "Rootfs": str,
    "Created": str,
    "Owner": str,
    "UniqueID": str,
    "Isolation": str,
    "Creator": dict,
    "Hooks": dict,
    "Annotations": dict,
}


def load(store: "Store", id: str) -> "dict[str, Any]":
    """The record of a container.

    Errors  NotFound; NoSuchKey; DamagedKey.
    """
    record = store.get(id, KEY)
    if type(record) is not dict:
        raise DamagedKey(id, KEY, "it is not an object")
    for name, kind in FIELDS.items():
        if type(record.get(name)) is not kind:
            raise DamagedKey(id, KEY, f"{name} is missing or of the wrong type")
    creator = record["Creator"]
    if type(creator.get("pid")) is not int or type(creator.get("start")) is not int:
        raise DamagedKey(id, KEY, "Creator is not a pid with its start time")
    return record
