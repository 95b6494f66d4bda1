"""Start a helper with next to nothing: a user of its own, no capability, only the fds it is given.

Runs in: vmshim, template builder.   Imports: posix, fcntl; native.launch, plan.helper.
Source:  docs/vm.md "Confinement"; docs/security.md V27, V48, V52.
Never:   looks a program up in PATH, or lets a helper outlive the process that started it.
"""

import errno
import fcntl
import posix

from skerry import paths, timeouts
from skerry.errors import EngineError, KernelError
from skerry.linux import abi, caps
from skerry.linux.fd import close_all
from skerry.native import facts
from skerry.native.dialogue import Dialogue
from skerry.native.launch import launch
from skerry.plan import helper as recipe
from skerry.plan.request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from skerry.native.cgroup.group import Cgroup

BASE_UID = 0x6B000000
SLOTS = 0x10000
_NOBODY_ELSE = {"uid": 0, "gid": 0, "additionalGids": []}
# name -> (soft and hard); what the caller has less of stays less
_LIMITS = {"RLIMIT_CORE": 0, "RLIMIT_NPROC": 1024, "RLIMIT_MSGQUEUE": 0}
FILES = 4096


class Slot:
    """A uid that no other helper of this host has now.

    The lock's fd goes to the helper, too: the uid is free when both have let go.
    """

    __slots__ = ("fd", "uid")

    def __init__(self, uid: int, fd: int) -> None:
        self.uid, self.fd = uid, fd

    def close(self) -> None:
        if self.fd >= 0:
            posix.close(self.fd)
            self.fd = -1


def take_slot(base: int = BASE_UID) -> Slot:
    """Lock the first free uid; an ordinary user has only the own one.

    Errors  KernelError; EngineError when all are taken.
    """
    if posix.geteuid():
        return Slot(posix.geteuid(), -1)
    _make_directory(paths.RUN, 0o700)
    directory = f"{paths.RUN}/{paths.SLOTS}"
    _make_directory(directory, 0o700)
    for number in range(SLOTS):
        path = f"{directory}/{number}"
        try:
            fd = posix.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC, 0o600)
        except OSError as error:
            raise KernelError("open", path, error.errno or 0) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            posix.close(fd)
            continue
        return Slot(base + number, fd)
    raise EngineError(f"cannot start another VM: all {SLOTS} user ids are taken")


def _make_directory(path: str, mode: int) -> None:
    try:
        posix.mkdir(path, mode)
    except FileExistsError:
        return
    except OSError as error:
        raise KernelError("make", path, error.errno or 0) from None


class Confinement:
    """How little a helper gets.

    uid, gid      its user; no further groups
    capabilities  names; none for most
    namespaces    CLONE_* mask of new ones
    cgroup        None, or where it lives
    files         how many it may have open
    """

    __slots__ = ("capabilities", "cgroup", "files", "gid", "namespaces", "uid")

    def __init__(
        self,
        uid: int,
        *,
        gid: int = -1,
        capabilities: "Sequence[str]" = (),
        namespaces: int = 0,
        cgroup: "Cgroup | None" = None,
        files: int = FILES,
    ) -> None:
        self.uid, self.files = uid, files
        self.gid = uid if gid < 0 else gid
        self.capabilities = list(capabilities)
        self.namespaces = namespaces
        self.cgroup = cgroup


class Running:
    """A helper that runs. Who has it reaps it."""

    __slots__ = ("pid", "pidfd", "start_time")

    def __init__(self, pid: int, pidfd: int, start_time: int) -> None:
        self.pid, self.pidfd, self.start_time = pid, pidfd, start_time


def check_program(path: str) -> None:
    """Errors  EngineError naming the program if it is not there (the plan's execve finds the rest)."""
    if not path.startswith("/"):
        raise EngineError(f"cannot execute {path}: it is not an absolute path")
    try:
        mode = posix.stat(path).st_mode
    except OSError as error:
        name = path.rpartition("/")[2]
        raise KernelError("execute", path, error.errno or 0, hint=f"install {name}") from None
    if mode & 0o170000 != 0o100000 or not mode & 0o111:
        raise KernelError("execute", path, errno.EACCES)


def start(
    argv: "Sequence[str]",
    fds: "Sequence[tuple[int, str]]",
    confinement: Confinement,
    *,
    said_fd: int,
    share: "recipe.Share | None" = None,
    on_process: "Callable[[int, int], None] | None" = None,
) -> Running:
    """Start it; what it writes to standard output and error goes to `said_fd`.

    Shape   `fds` is (fd here, what it is); the first becomes 3 there, the next 4, and so on. `on_process(pid, start
            time)` puts it on record before it can do anything.
    Errors  InitError, KernelError; nothing runs then.
    """
    check_program(argv[0])
    r = _request(confinement, len(fds))
    what = f"start {argv[0].rpartition('/')[2]}"
    plan = recipe.build(
        r,
        recipe.Helper(
            argv, [name for _, name in fds], namespaces=confinement.namespaces, share=share
        ),
    )
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    mapping = {0: null, 1: said_fd, 2: said_fd}
    mapping.update({number: fd for number, (fd, _) in enumerate(fds, 3)})
    opened = [null]
    cgroup = confinement.cgroup
    try:
        if r.cgroup_version == 2 and cgroup is not None:
            mapping[r.cgroup_fd] = cgroup.join_fd()
            opened.append(mapping[r.cgroup_fd])
        launched = launch(plan, r, mapping, what=what, limit_s=timeouts.seconds("CREATE"))
    finally:
        close_all(opened)
    attach = cgroup.attach if cgroup is not None and r.cgroup_version != 2 else None
    dialogue = Dialogue(launched, r, None)
    try:
        if attach is not None:
            attach(launched.pid)
        dialogue.run()
        first = dialogue.pidfd < 0  # v2 has a second process, which is the helper
        pid = launched.pid if first else dialogue.pid
        started = launched.start_time if first else dialogue.start_time
        if on_process is not None:
            on_process(pid, started)
        dialogue.finish()
        dialogue.await_execve()
    except BaseException:
        dialogue.abort()
        raise
    if first:
        launched.conversation.close()
        return Running(pid, launched.pidfd, started)
    dialogue.close()
    return Running(pid, dialogue.pidfd, started)


def _request(confinement: Confinement, count: int) -> Request:
    user = {**_NOBODY_ELSE, "uid": confinement.uid, "gid": confinement.gid}
    sets = ("bounding", "effective", "permitted", "inheritable", "ambient")
    wanted = {**_LIMITS, "RLIMIT_NOFILE": confinement.files}
    own = facts.limits({"rlimits": [{"type": name} for name in wanted]})
    limits = []
    for name, value in wanted.items():
        hard = own[abi.RLIMITS[name]][1]
        value = value if hard < 0 else min(value, hard)
        limits.append({"type": name, "soft": value, "hard": value})
    process: dict[str, Any] = {
        "user": user,
        "capabilities": dict.fromkeys(sets, confinement.capabilities),
        "noNewPrivileges": True,
        "rlimits": limits,
    }
    if (
        confinement.uid == 0
    ):  # root's exec raises what the bounding set leaves, and nothing is inherited
        process["capabilities"]["inheritable"] = process["capabilities"]["ambient"] = []
    r = Request(facts.machine(), "helper", {}, process)
    r.preserve = count
    r.last_cap = caps.last_cap()
    r.limits = own
    if confinement.cgroup is not None and confinement.cgroup.kind == "v2":
        r.cgroup_version = 2
    return r
