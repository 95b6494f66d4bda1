"""Statuses, and what each verb says to them.

Runs in: every verb (hot); pure.   Imports: skerry.errors.
Source:  docs/lifecycle.md 65, 68, 90, 94, 99, 105, 108, 110, 112 and section P.
Never:   finds out a status; that is the engine's and the container's part.

`VERBS` is the only place where it stands what may be done to a container in which status. The
documents print it.
"""

from skerry.errors import StateError

CREATING = "creating"
CREATED = "created"
RUNNING = "running"
PAUSED = "paused"
STOPPED = "stopped"
UNKNOWN = "unknown"

# status -> what it means
STATUSES = {
    CREATING: "no shim yet, and the process that creates the container is alive",
    CREATED: "the gate stands: the user's program has not run",
    RUNNING: "the gate is open and init lives",
    PAUSED: "the container's processes are frozen",
    STOPPED: "init is dead, or the creator died before there was a shim, or `exit` is recorded",
    UNKNOWN: "the engine cannot say: a virtual machine whose guest does not answer",
}

_NOT_RUNNING = "container not running"
_IS_STOPPED = "container is stopped"
_NO_CHECKPOINT = "Container cannot be checkpointed in {status} state"

# verb -> (statuses that allow it, status -> words of the refusal, words for every other status)
VERBS = {
    "start": (
        (CREATED,),
        {
            STOPPED: "cannot start a container that has stopped",
            RUNNING: "cannot start an already running container",
        },
        "cannot start a container in the {status} state",
    ),
    "exec": (
        (CREATED, RUNNING),
        {
            STOPPED: "cannot exec in a stopped container",
            PAUSED: "cannot exec in a paused container (use --ignore-paused to override)",
        },
        "cannot exec in a container in the {status} state",
    ),
    "exec --ignore-paused": (
        (CREATED, RUNNING, PAUSED),
        {STOPPED: "cannot exec in a stopped container"},
        "cannot exec in a container in the {status} state",
    ),
    "kill": ((CREATED, RUNNING, PAUSED, UNKNOWN), {}, _NOT_RUNNING),
    "pause": ((CREATED, RUNNING), {}, _NOT_RUNNING),
    "resume": ((PAUSED,), {}, "container not paused"),
    "update": ((CREATED, RUNNING, PAUSED), {}, _NOT_RUNNING),
    "resize-tty": ((CREATED, RUNNING, PAUSED), {}, _NOT_RUNNING),
    "ps": ((CREATED, RUNNING, PAUSED), {STOPPED: _IS_STOPPED}, _NOT_RUNNING),
    "shim": ((CREATING, CREATED, RUNNING, PAUSED), {}, _IS_STOPPED),
    "events": (
        (CREATED, RUNNING, PAUSED),
        {},
        "container with id {id} is not running",
    ),
    "checkpoint": ((RUNNING, PAUSED), {}, _NO_CHECKPOINT),
    "delete": (
        (CREATED, STOPPED),
        {},
        "cannot delete container {id} that is not stopped: {status}",
    ),
    "delete --force": (tuple(STATUSES), {}, ""),
}


def check(verb: str, status: str, id: str) -> None:
    """Refuse a verb that the container's status does not allow.

    Errors  StateError with the words of the table.
    """
    allowed, words, otherwise = VERBS[verb]
    if status not in allowed:
        message = words.get(status, otherwise).format(id=id, status=status)
        raise StateError(message, id=id, status=status, verb=verb)
