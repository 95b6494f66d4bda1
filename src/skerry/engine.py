"""Engines: what makes a container's processes exist.

Runs in: every verb (hot).   Imports: errors.
Source:  docs/decisions; design "Engines".
Never:   knows a container's rules (container.py) or how an engine works.

An engine is made for one id and holds nothing open between calls; what must be remembered it writes to the journal.

    create(spec, record, options) -> creation   built up to the gate; .dialogue has pid, pidfd, console_fd
    start(limit_s)                              created only
    status() -> word                            derived from facts, never stored
    signal(number)                              init; created, running, paused
    kill_all(number)                            every process
    exec(spec, process, options, ...)           running; created
    pause() resume()                            running; paused
    update(resources)                           all set, or all as before
    stats() processes()
    hold_network(pidfd) -> path                 a sandbox's network namespace outlives its init
    release()                                   everything in the journal, in reverse; can be repeated
"""

from skerry.errors import Error

# isolation -> module and class
ENGINES = {"process": ("skerry.native.engine", "NativeEngine")}


class Options:
    """What the caller of create chose, beside the spec. Fds are borrowed."""

    __slots__ = ("console", "layers", "new_keyring", "no_pivot", "preserve", "extra_env", "stdio")

    def __init__(self) -> None:
        self.stdio = (0, 1, 2)
        self.console = False
        self.preserve = 0
        self.extra_env: list[str] = []
        self.no_pivot = False
        self.new_keyring = True
        self.layers: list[str] = []


def engine_class(isolation: str) -> type:
    """Load an engine by its isolation.

    Errors  Error where this build has none.
    """
    if isolation not in ENGINES:
        raise Error(f"cannot use {isolation} isolation: this build of skerry has no such engine")
    module, name = ENGINES[isolation]
    loaded: type = getattr(__import__(module, fromlist=[name]), name)
    return loaded
