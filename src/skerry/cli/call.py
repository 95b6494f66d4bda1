"""One call of the command line: what was asked, and the few things that every verb needs for it.

Runs in: every verb (hot).   Imports: posix; errors, paths; the core where it is called.
Source:  lifecycle.md 2, 11, 135, 136.
Never:   knows a verb.
"""

import posix

from skerry.errors import UsageError
from skerry.paths import absolute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.cli.options import Verb
    from skerry.container import Container
    from skerry.log import Log
    from skerry.state.store import Store

ID_LIMIT_BYTES = 255
ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


def check_id(id: str, /) -> str:
    """Return the id if the command line may use it (lifecycle 11). The store would take any."""
    if not id:
        raise UsageError("container id cannot be empty")
    if id in (".", "..") or len(id) > ID_LIMIT_BYTES or not ID_CHARACTERS.issuperset(id):
        raise UsageError("invalid container ID format")
    return id


class Interrupted(KeyboardInterrupt):
    """A signal ended the work in hand; what was half made is undone on the way out."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"signal {signal}")
        self.signal = signal


class Call:
    """Shape: `general` holds the global options and `options` the verb's, by name; `words` the
    verb's words.

    It is filled as parsing goes on, so that a failure can be told with what is known by then.
    """

    __slots__ = ("general", "log", "verb", "table", "options", "words")

    def __init__(self, *, general: "dict[str, Any]", log: "Log") -> None:
        self.general = general
        self.log = log
        self.verb = ""
        self.table: Verb | None = None
        self.options: dict[str, Any] = {}
        self.words: list[str] = []

    def id(self) -> str:
        return check_id(self.words[0])

    def store(self) -> "Store":
        from skerry.container import open_store

        return open_store(self.general["root"])

    def container(self) -> "Container":
        from skerry.container import Container

        id = self.id()
        return Container.load(self.store(), id, log=self.log)


def notify_socket() -> str:
    """Where a service manager wants to be told that the program is ready, or "" (lifecycle 131)."""
    return posix.environ.get(b"NOTIFY_SOCKET", b"").decode("utf-8", "surrogateescape")


def from_here(path: str, /) -> str:
    """Make the path of an option absolute; one that was not given stays empty (lifecycle 33)."""
    return absolute(path) if path else ""
