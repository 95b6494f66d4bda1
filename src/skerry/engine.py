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
    release(warn)                               everything in the journal, in reverse; can be repeated
"""

from skerry.errors import Error

# isolation -> module and class
ENGINES = {"process": ("skerry.native.engine", "NativeEngine")}


def engine_class(isolation: str) -> type:
    """Load an engine by its isolation.

    Errors  Error where this build has none.
    """
    if isolation not in ENGINES:
        raise Error(f"cannot use {isolation} isolation: this build of skerry has no such engine")
    module, name = ENGINES[isolation]
    loaded: type = getattr(__import__(module, fromlist=[name]), name)
    return loaded
