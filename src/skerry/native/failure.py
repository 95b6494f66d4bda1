"""skerry-init's two numbers as a sentence.

Runs in: create, start, exec (only when something failed).   Imports: errors, plan.
Source:  style: `cannot <verb> <object>: <cause>`.
Never:   guesses; the step, its pointer and its hints come from the plan.
"""

from skerry.errors import Error, HookError, InitError, errno_text
from skerry.native.conversation import Record
from skerry.plan import ops
from skerry.plan.build import BEFORE_THE_FIRST, Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def explain(plan: Plan, record: Record) -> Error:
    """The error that a FAILED record stands for."""
    if record.process == BEFORE_THE_FIRST:
        return _explain_clone(record)
    if record.op >= len(plan.ops):
        index = record.value >> 32
        number = record.value & 0xFFFFFFFF
        reason = next((word for word, n in ops.REFUSALS.items() if n == number), str(number))
        return InitError(f"skerry-init refused the plan at operation {index}: {reason}")
    return describe(plan, record.op, record.errno, record.value, record.tail, record.process)


def _explain_clone(record: Record) -> Error:
    """skerry-init did not get to its plan: it may not be run from memory, and could not clone its file either."""
    from skerry import paths
    from skerry.native.facts import machine
    from skerry.plan import installed

    plan = installed.build(machine(), paths.init_path(), plan_fd=0, conversation_fd=-1)
    op = plan.ops[record.op]
    return InitError(
        f"cannot {op.label.text}: {op.call}: {errno_text(record.errno)}",
        process="skerry-init",
        step=op.label.text,
        call=op.call,
        errno=record.errno,
        hint=op.label.hints.get(record.errno, installed.HINT),
    )


def explain_start(id: str, spec: "dict[str, Any]", record: Record, count: int) -> Error:
    """The error that a FAILED record from behind the gate stands for.

    The steps there are the last ones of the plan that create made, which had `count` operations.
    """
    from skerry.native.facts import machine
    from skerry.plan.create import build_end
    from skerry.plan.request import Request

    plan = build_end(Request(machine(), id, spec, spec.get("process")))
    index = len(plan.ops) - (count - record.op)
    if not 0 <= index < len(plan.ops):
        return InitError(
            f"the program did not start: {errno_text(record.errno)}", errno=record.errno
        )
    return describe(plan, index, record.errno, record.value, record.tail, 0)


def describe(plan: Plan, index: int, errno: int, value: int, tail: bytes, process: int) -> Error:
    op = plan.ops[index]
    label = op.label
    name = plan.process_name(process)
    if op.name == "HOOK":
        return _hook_error(label.text, label.hints.get(errno, ""), errno, value, tail)
    hint = label.hints.get(errno, "")
    cause = errno_text(errno)
    # Engines look for these words (security: exit codes 126 and 127 of docker and podman).
    if hint and label.text.startswith(("find ", "execute ")):
        cause, hint = f"{hint}: {cause}", ""
    text = f"{label.pointer}: " if label.pointer else ""
    call = op.call or op.name.lower()
    # The step may be named after its call.
    how = "" if label.text.startswith(f"{call} ") else f"{call}: "
    return InitError(
        f"{text}cannot {label.text}: {how}{cause} in {name}",
        process=name,
        step=label.text,
        call=call,
        errno=errno,
        pointer=label.pointer,
        hint=hint,
    )


def _hook_error(step: str, hint: str, errno: int, status: int, tail: bytes) -> Error:
    """`run startContainer hook #0 /path` -> runc's words."""
    words = step.split(" ", 4)
    output = tail.decode("utf-8", "replace").strip()
    if errno:
        cause = hint or errno_text(errno)
    elif status & 0x7F:
        cause = f"killed by signal {status & 0x7F}"
    else:
        cause = f"exit status {status >> 8 & 0xFF}"
    text = f"error running {words[1]} hook {words[3]}: {cause}"
    return HookError(f"{text}, output: {output}" if output else text)


def died(code: int, signal: int, hint: str) -> Error:
    """The conversation ended without a word: skerry-init was killed."""
    how = f"killed by signal {signal}" if signal else f"exit status {code}"
    return InitError(f"skerry-init ended before the program could start: {how}", hint=hint)
