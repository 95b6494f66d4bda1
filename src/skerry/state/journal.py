"""The journal of a container: what was acquired for it, written down before it was made.

Runs in: create, delete (hot); no system calls of its own.   Imports: errors.
Source:  docs/lifecycle.md 118-120.
Never:   acquires or releases anything; engines do, item by item.

An item is a dict with a `kind`; its other keys are all that another process needs to release it. The list is in order
of acquisition, and each change is one atomic write of the key `resources`.
"""

from skerry.errors import DamagedKey, NoSuchKey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.state.store import Store

KEY = "resources"


class Journal:
    """The list as it is stored."""

    __slots__ = ("_id", "_store", "items")

    def __init__(self, store: "Store", id: str, items: "list[dict[str, Any]]") -> None:
        self._store = store
        self._id = id
        self.items = items

    @classmethod
    def load(cls, store: "Store", id: str) -> "Journal":
        """Errors  NotFound; DamagedKey."""
        try:
            items = store.get(id, KEY)
        except NoSuchKey:
            return cls(store, id, [])
        if type(items) is not list or not all(type(item) is dict for item in items):
            raise DamagedKey(id, KEY, "it is not a list of items")
        return cls(store, id, items)

    def add(self, *items: "dict[str, Any]") -> None:
        """Write down what is about to be acquired."""
        self.items.extend(items)
        self.save()

    def replace(self, kind: str, item: "dict[str, Any]") -> None:
        """Put the item in the place of the last of this kind."""
        for index in range(len(self.items) - 1, -1, -1):
            if self.items[index].get("kind") == kind:
                self.items[index] = item
                self.save()
                return
        self.add(item)

    def of(self, kind: str) -> "list[dict[str, Any]]":
        return [item for item in self.items if item.get("kind") == kind]

    def save(self) -> None:
        self._store.set(self._id, KEY, self.items)
