"""One call of the command line: what was asked, and the few things that every verb needs for it.

Runs in: every verb (hot).   Imports: posix, errors; the core where it is called.
Source:  lifecycle.md 2, 11, 135, 136.
Never:   knows a verb.
"""

import posix

from skerry.errors import UsageError

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
        self.table: "Verb | None" = None
        self.options: "dict[str, Any]" = {}
        self.words: "list[str]" = []

    def id(self) -> str:
        return check_id(self.words[0])

    def store(self) -> "Store":
        from skerry.container import open_store

        return open_store(self.general["root"])

    def container(self) -> "Container":
        from skerry.container import Container

        id = self.id()
        return Container.load(self.store(), id)


def absolute(path: str, /) -> str:
    """Make a path absolute against the caller's directory, as words only: no link is looked at.

    The empty path stays empty: an option that was not given.
    """
    if not path:
        return ""
    parts: "list[str]" = []
    for part in (path if path.startswith("/") else f"{posix.getcwd()}/{path}").split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
