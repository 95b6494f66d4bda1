"""The end of a cgroup: kill what is in it, remove what was made.

Runs in: kill delete (hot).   Imports: errno posix time errors timeouts linux.cgroupfs; .freezer.
Source:  kernel Documentation/admin-guide/cgroup-v2.rst "cgroup.kill"; lifecycle.md 118-121.
Never:   removes what `create` did not make, or kills in order to remove.
"""

import errno
import posix
import time

from skerry import timeouts
from skerry.errors import EngineError, KernelError
from skerry.linux import cgroupfs
from skerry.native.cgroup import freezer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.native.cgroup.group import Cgroup

SIGKILL = 9
FREEZE_DEADLINE_S = 0.5
_LONGEST_PAUSE_MS = 50
# rmdir: processes or children are still there
_IN_USE = (errno.EBUSY, errno.ENOTEMPTY)


def kill(group: "Cgroup", signal: int, /, *, deadline_s: float = 0) -> None:
    """Signal every process. SIGKILL: again until none is left, so that no fork gets away.

    Units   without a deadline it is the limit KILL (timeouts.py).
    Errors  EngineError if processes outlive the deadline (uninterruptible sleep).
    """
    if signal != SIGKILL:
        _signal_all(group, signal)
        return
    deadline_s = deadline_s or timeouts.seconds("KILL")
    limit = time.monotonic() + deadline_s
    if _kill_at_once(group):
        freezer.thaw_below(group)
    else:
        _kill_frozen(group)
    pause_ms = 1
    while left := group.processes():
        if time.monotonic() > limit:
            raise EngineError(
                f"cannot kill {len(left)} process(es) of cgroup {group.leaves[0]}: "
                f"still there after {deadline_s:g} s"
            )
        cgroupfs.pause(pause_ms)
        pause_ms = min(2 * pause_ms, _LONGEST_PAUSE_MS)
        # most are only slow to die; whoever is not gone soon may have been forked in time
        if pause_ms == _LONGEST_PAUSE_MS:
            _kill_frozen(group)


def _kill_at_once(group: "Cgroup", /) -> bool:
    """Kill the whole subtree in one stroke. False: no v2 tree here, or older than Linux 5.14."""
    if "" not in group.paths:
        return False
    try:
        cgroupfs.write(f"{group.paths['']}/cgroup.kill", "1")
    except KernelError as error:
        if error.errno in (*cgroupfs.GONE, errno.EOPNOTSUPP):
            return False
        raise
    return True


def _kill_frozen(group: "Cgroup", /) -> None:
    """Freeze, kill, thaw: a frozen fork bomb makes no more children.

    What will not freeze is killed as it is.
    """
    _try_freeze(group)
    try:
        for pid in group.processes():
            _send(pid, SIGKILL)
    finally:
        freezer.thaw_below(group)


def _signal_all(group: "Cgroup", signal: int, /) -> None:
    """Frozen meanwhile, so that no process escapes by a fork and no pid changes its owner."""
    was_frozen = group.frozen()
    _try_freeze(group)
    try:
        for pid in group.processes():
            _send(pid, signal)
    finally:
        if not was_frozen:
            freezer.thaw(group)


def _try_freeze(group: "Cgroup", /) -> None:
    try:
        freezer.freeze(group, deadline_s=FREEZE_DEADLINE_S)
    except EngineError:
        return
    except KernelError as error:
        if error.errno not in cgroupfs.GONE:
            raise


def _send(pid: int, signal: int, /) -> None:
    try:
        posix.kill(pid, signal)
    except OSError as error:
        if error.errno != errno.ESRCH:
            raise KernelError("kill", f"process {pid}", error.errno or 0) from None


def remove(group: "Cgroup", /, *, deadline_s: float = 0) -> None:
    """Remove the cgroup with all below it, then the parents that we made and nobody uses.

    A killed process leaves its cgroup some moments after it was reaped, hence the patience. A
    cgroup that was there before `create` stays; what the container has made in it goes.
    Errors  KernelError if a cgroup is still in use at the deadline.
    """
    limit = time.monotonic() + (deadline_s or timeouts.seconds("KILL"))
    leaves = group.leaves
    pause_ms = 1
    while stuck := _remove_below(leaves, group.made):
        path, number = stuck
        if number not in _IN_USE or time.monotonic() > limit:
            pids = [pid for each in cgroupfs.subtree(path) for pid in cgroupfs.members(each)]
            hint = f"{len(pids)} process(es) are in it" if pids else ""
            raise KernelError("remove cgroup", path, number, hint=hint)
        cgroupfs.pause(pause_ms)
        pause_ms = min(2 * pause_ms, _LONGEST_PAUSE_MS)
    for path in reversed(group.made):
        number = 0 if path in leaves else cgroupfs.remove(path)
        if number and number not in _IN_USE:
            raise KernelError("remove cgroup", path, number)


def _remove_below(leaves: list[str], made: list[str], /) -> tuple[str, int] | None:
    """Try each cgroup once, deepest first; return one that could not be removed."""
    stuck = None
    for leaf in leaves:
        # Most have nothing below, and whoever has is only looked into then.
        if leaf in made and not cgroupfs.remove(leaf):
            continue
        for path in reversed(cgroupfs.subtree(leaf)):
            number = cgroupfs.remove(path) if path != leaf or leaf in made else 0
            if number:
                stuck = (path, number)
    return stuck
