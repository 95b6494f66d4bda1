"""The hooks that run inside: createContainer before the pivot, startContainer before the program.

Runs in: create (hot); pure.   Imports: jsonio, plan.
Source:  runtime-spec config.md "POSIX-platform Hooks", runtime.md "Lifecycle".
Never:   runs the host's hooks (prestart, createRuntime, poststart, poststop); the parent does.

The state they read on stdin has a pid that nobody knows when the plan is built: it is in the plan with room for one,
and the parent sends the digits with the GO that lets the plan go on.
"""

from errno import EACCES, ENOENT, ETIMEDOUT

from skerry.jsonio import dumps
from skerry.plan import ops
from skerry.plan.build import Data, Plan
from skerry.plan.identity import DEFAULT_UMASK
from skerry.plan.program import Program
from skerry.plan.request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# A pid has at most seven digits; blanks before a number mean nothing to JSON.
PID_BYTES = 10
_PID_MARK = b'"pid":' + b"9" * PID_BYTES
NO_STATE = (Data(0, 0), 0)


def due(p: Plan, r: Request) -> None:
    """Mounts and devices are done: let the parent run its hooks and set the limits, then run ours."""
    p.step("let the host's hooks run")
    p.call("SEND", ops.HOOKS, 0, -1)
    state = receive_state(p, r, "createContainer")
    entries = (r.spec.get("hooks") or {}).get("createContainer") or []
    if not entries:
        return
    env = p.words([*[p.text(e) for e in (r.process or {}).get("env") or ()], 0])
    p.call("umask", DEFAULT_UMASK)
    _run(p, "createContainer", entries, env, state)
    p.call("umask", 0)


def template(state: "dict[str, Any]") -> bytes:
    """The state as JSON, its pid still to be filled in."""
    return dumps({**state, "pid": int(b"9" * PID_BYTES)})


def pid_digits(pid: int) -> bytes:
    """What goes with the GO."""
    return b"%*d" % (PID_BYTES, pid)


def receive_state(p: Plan, r: Request, name: str) -> "tuple[Data, int]":
    """Wait for the parent; with hooks of this name, for the pid in their state too.

    Result  (the state, its length).
    """
    if not (r.spec.get("hooks") or {}).get(name):
        p.call("RECV", ops.GO, p.text(""), 0)
        return NO_STATE
    raw = r.hook_states[name]
    state = p.blob(raw)
    place = raw.index(_PID_MARK) + len(_PID_MARK) - PID_BYTES
    p.call("RECV", ops.GO, state.at(place), PID_BYTES)
    return state, len(raw)


def start_container(p: Plan, r: Request, program: Program, state: "tuple[Data, int]") -> None:
    entries = (r.spec.get("hooks") or {}).get("startContainer") or []
    _run(p, "startContainer", entries, program.envp, state)


def _run(
    p: Plan,
    name: str,
    entries: "list[dict[str, Any]]",
    default_env: Data,
    state: "tuple[Data, int]",
) -> None:
    for index, hook in enumerate(entries):
        path = hook["path"]
        hints = {
            ENOENT: "no such file or directory",
            EACCES: "permission denied",
            ETIMEDOUT: f"no end after {hook.get('timeout')} s",
        }
        p.step(f"run {name} hook #{index} {path}", f"/hooks/{name}/{index}", hints)
        argv = p.words([*[p.text(arg) for arg in hook.get("args") or [path]], 0])
        env = default_env
        if hook.get("env") is not None:
            env = p.words([*[p.text(entry) for entry in hook["env"]], 0])
        timeout_ms = (hook.get("timeout") or 0) * 1000
        p.call("HOOK", path, argv, env, *state, timeout_ms)
