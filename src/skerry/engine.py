"""Engines: what makes a container's processes exist.

Runs in: every verb (hot).   Imports: errors.
Source:  docs/decisions; design "Engines".
Never:   knows a container's rules (container.py) or how an engine works.

An engine is made for one id and holds nothing open between calls; what must be remembered it writes to the journal.

    refuse(options, pidfd_socket)               what it cannot do, before anything is made
    create(spec, record, options) -> Built      built up to the gate
    start(spec_of)                              created only
    status() -> word                            derived from facts, never stored
    init() -> (pid, pidfd)  pid()  hook_pid()   of the host: of init, or of what stands for it; for hooks
    signal(number, exec_pid)                    init; created, running, paused. In a VM also an exec, by its host pid
    kill_all(number)                            every process
    exec(spec, process, options, ...) -> Built  running; created
    pause() resume() thaw_below()               running; paused; what a container has frozen itself
    update(resources, pointer)                  all set, or all as before
    resize(width, height, pid)                  the terminal of init, or of the exec with that host pid
    stats() processes() oom_watch()             figures; pids as ps shows them; an object with fileno, happened, close
    process_table() -> rows or None             None where the host's ps knows the pids
    keep_network(record, pid, pidfd) -> path    for the key `netns`; "": none, or the engine has written it
    has_init(timeout_s)  destroy(limit_s)       whether init still is there; kill it and wait: whether it has ended
    kill_creation()                             what another process is just making
    release()                                   everything in the journal, in reverse; can be repeated
    release_own() release_remains()             of an id that is no more; of facts that are damaged
    writes_exit                                 whether the key `exit` is written by a process of the engine's

Built is what create and exec return:

    dialogue    pid, pidfd, start_time of the host's process; console_fd, the terminal's master; abort()
    facts       what the key of the process holds beyond pid and start time; None: it is written elsewhere
    finish()    everything is on record: let it go on
"""

from skerry.errors import Error

# isolation -> module and class
ENGINES = {
    "process": ("skerry.native.engine", "NativeEngine"),
    "vm": ("skerry.vm.engine", "VmEngine"),
}


class Options:
    """What the caller of create chose, beside the spec. Fds are borrowed.

    shim_log, vm_log, vm_console   files or sockets for a VM's helpers; "" is none
    """

    __slots__ = (
        "console", "extra_env", "ignore_paused", "layers", "new_keyring", "no_pivot", "preserve", "shim_log", "stdio",
        "vm_console", "vm_log",
    )  # fmt: skip

    def __init__(self) -> None:
        self.stdio = (0, 1, 2)
        self.console = False
        self.preserve = 0
        self.extra_env: list[str] = []
        self.no_pivot = False
        self.new_keyring = True
        self.layers: list[str] = []
        self.ignore_paused = False
        self.shim_log = self.vm_log = self.vm_console = ""


def engine_class(isolation: str) -> type:
    """Load an engine by its isolation.

    Errors  Error where this build has none.
    """
    if isolation not in ENGINES:
        raise Error(f"cannot use {isolation} isolation: this build of skerry has no such engine")
    module, name = ENGINES[isolation]
    loaded: type = getattr(__import__(module, fromlist=[name]), name)
    return loaded
