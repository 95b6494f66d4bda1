"""The hooks that run inside: createContainer before the pivot, startContainer before the program.

Runs in: create (hot); pure.   Imports: plan.
Source:  runtime-spec config.md "POSIX-platform Hooks", runtime.md "Lifecycle".
Never:   runs the host's hooks (prestart, createRuntime, poststart, poststop); the parent does.

The state they read on stdin has a pid that nobody knows when the plan is built, so the parent sends its bytes with
the GO that lets the plan go on.
"""

from errno import EACCES, ENOENT, ETIMEDOUT

from skerry.plan import ops
from skerry.plan.build import Data, Plan, Reg
from skerry.plan.identity import DEFAULT_UMASK
from skerry.plan.program import Program
from skerry.plan.request import Request

State = tuple[Data, Reg]


def due(p: Plan, r: Request) -> None:
    """Mounts and devices are done: let the parent run its hooks and set the limits, then run ours."""
    p.step("let the host's hooks run")
    p.call("SEND", ops.HOOKS, 0, -1)
    state = _receive(p, r)
    entries = (r.spec.get("hooks") or {}).get("createContainer") or []
    if not entries:
        return
    env = p.words([*[p.text(e) for e in (r.process or {}).get("env") or ()], 0])
    p.call("umask", DEFAULT_UMASK)
    _run(p, "createContainer", entries, env, state)
    p.call("umask", 0)


def receive_state(p: Plan, r: Request) -> State:
    """The last word of the parent: on record, go to the gate."""
    p.step("wait to be on record")
    return _receive(p, r)


def start_container(p: Plan, r: Request, program: Program, state: State) -> None:
    entries = (r.spec.get("hooks") or {}).get("startContainer") or []
    _run(p, "startContainer", entries, program.envp, state)


def _receive(p: Plan, r: Request) -> State:
    buffer = p.reserve(r.state_bytes)
    return buffer, p.result("RECV", ops.GO, buffer, r.state_bytes)


def _run(p: Plan, name: str, entries: "list[dict]", default_env: Data, state: State) -> None:  # type: ignore[type-arg]
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
