"""A plan as text or JSON, for `skerry plan`, golden tests and debugging.

Runs in: plan (not hot); pure.   Imports: plan.
Source:  none.
Never:   is used to decide anything.

The text is made to be compared: it has no indexes. A jump names a letter that stands before the operation where it goes
on; letters are free again once they were reached, so that a new operation leaves the lines of the others as they are.
"""

from skerry.plan import ops
from skerry.plan.build import Mark, Op, Plan
from skerry.plan.show_calls import Arguments, errnos

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_END = "the end"


def text(plan: Plan, doubts: "list[str] | tuple[()]" = ()) -> str:
    """The listing: a line for each process, step and operation.

    `doubts`: why create would refuse as things are; the plan is that of a host where they are as they should be.
    """
    show = Arguments(plan)
    marks = _Marks(plan)
    lines = [f"create would refuse now: {doubt}" for doubt in doubts]
    lines += ["", "fds at the start"] if doubts else ["fds at the start"]
    lines += [f"  {fd}: {what}" for fd, what in sorted(plan.fds.items())]
    process, last = -1, ""
    for index, op in enumerate(plan.ops):
        if op.process != process:
            process = op.process
            lines += ["", plan.process_name(process)]
            last = ""
        step = f"  {op.label.text}" + (f"  [{op.label.pointer}]" if op.label.pointer else "")
        if step != last:
            lines.append(step)
            last = step
        outcome = _outcome(op, marks)  # first, so that no line seems to lead to itself
        lines.append(f"{marks.placed(index):>5} {show.of(op)}{outcome}")
    return "\n".join(lines) + "\n"


def as_json(plan: Plan, doubts: "list[str] | tuple[()]" = ()) -> object:
    """The listing as data.

    Shape   {doubts, fds: {number: what}, processes, ops: [{index, process, step, pointer, op, result, ignore, jump}]};
            ignore: errnos, [] for any; jump: {on: errnos, to: index}; those without a meaning are null
    """
    show = Arguments(plan)
    return {
        "doubts": list(doubts),
        "fds": {str(fd): what for fd, what in sorted(plan.fds.items())},
        "processes": plan.processes,
        "ops": [
            {
                "index": index,
                "process": plan.process_name(op.process),
                "step": op.label.text,
                "pointer": op.label.pointer,
                "op": show.of(op),
                "result": f"r{op.dst.number}" if op.dst is not None else None,
                "ignore": errnos(op.errnos) if op.fail == ops.IGNORE else None,
                "jump": {"on": errnos(op.errnos), "to": op.target.index} if op.target else None,
            }
            for index, op in enumerate(plan.ops)
        ],
    }


def _outcome(op: Op, marks: "_Marks") -> str:
    """What becomes of the result, and of a failure that does not end the plan."""
    words = f" -> r{op.dst.number}" if op.dst is not None else ""
    causes = "|".join(errnos(op.errnos)) or "any error"
    if op.fail == ops.IGNORE:
        return f"{words}, or {causes}"
    if op.target is None:
        return words
    letter = marks.letter(op.target)
    return f"{words}, to {letter} on {causes}" if op.fail == ops.JUMP else f"{words} to {letter}"


class _Marks:
    """Letters for the places that are jumped to."""

    def __init__(self, plan: Plan) -> None:
        self._letters: dict[int, str] = {}
        self._length = len(plan.ops)

    def letter(self, mark: Mark) -> str:
        if mark.index >= self._length:
            return _END
        if mark.index not in self._letters:
            taken = self._letters.values()
            self._letters[mark.index] = next(letter for letter in _LETTERS if letter not in taken)
        return self._letters[mark.index]

    def placed(self, index: int) -> str:
        """The letter that leads here, with a colon; it is free again."""
        letter = self._letters.pop(index, "")
        return f"{letter}:" if letter else ""
