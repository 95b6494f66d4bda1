"""The builder of plans: operations, registers, labels and the data they point into.

Runs in: create, exec (hot); pure.   Imports: linux.abi, plan.ops.
Source:  plan/ops.py is the table this follows.
Never:   touches the world; nothing happens until skerry-init reads the encoded plan.

A plan is a listing. Each operation belongs to a step ("mount tmpfs on /dev", with the JSON pointer of the spec that
asked for it) and to a process; both are kept here, by the operation's index, and turn a bare (index, errno) of
skerry-init into a sentence.
"""

from _operator import itemgetter
from struct import pack

from skerry.linux import abi
from skerry.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_U64 = 0xFFFFFFFFFFFFFFFF

# The process number of the plan that only gets skerry-init to its real one (plan/installed.py).
BEFORE_THE_FIRST = 0xFFFF


class Reg:
    """A register: an earlier result."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class Data:
    """A place in the plan's data; becomes a pointer."""

    __slots__ = ("offset", "size")

    def __init__(self, offset: int, size: int) -> None:
        self.offset = offset
        self.size = size

    def at(self, offset: int) -> "Data":
        return Data(self.offset + offset, self.size - offset)


class Mark:
    """A place in the listing to jump to."""

    __slots__ = ("index",)

    def __init__(self) -> None:
        self.index = -1


class Label:
    """What a step is for: words for errors and listings, the spec's pointer, hints by errno."""

    __slots__ = ("text", "pointer", "hints")

    def __init__(self, text: str, pointer: str, hints: "dict[int, str]") -> None:
        self.text = text
        self.pointer = pointer
        self.hints = hints


class Op(tuple):  # type: ignore[type-arg]
    """One entry, before encoding. A tuple, because a plan has hundreds and slots take three times as long to fill."""

    __slots__ = ()
    name: str = property(itemgetter(0))  # type: ignore[assignment]  # of ops.py
    call: str = property(itemgetter(1))  # type: ignore[assignment]  # the system call, "" for specials
    args: "tuple[int | Data | Reg, ...]" = property(itemgetter(2))  # type: ignore[assignment]
    dst: "Reg | None" = property(itemgetter(3))  # type: ignore[assignment]
    fail: int = property(itemgetter(4))  # type: ignore[assignment]
    errnos: "tuple[int, ...]" = property(itemgetter(5))  # type: ignore[assignment]
    target: "Mark | None" = property(itemgetter(6))  # type: ignore[assignment]
    process: int = property(itemgetter(7))  # type: ignore[assignment]
    label: Label = property(itemgetter(8))  # type: ignore[assignment]


class Plan:
    """A listing under construction.

    `process` numbers the process the next operations belong to; `processes` names them (for `comm` and errors).
    `fds` says what each fd that the plan starts with is, for the listing.
    """

    __slots__ = ("ops", "data", "relocations", "registers", "process", "processes", "fds", "conversation_fd",
                 "machine", "_label", "_texts", "_free", "_marks")  # fmt: skip

    def __init__(self, machine: str) -> None:
        self.machine = abi.MACHINES[machine]
        self.ops: list[Op] = []
        self.data = bytearray()
        self.relocations: list[int] = []
        self.registers = 0
        self.process = 0
        self.processes: list[str] = []
        self.fds: dict[int, str] = {}
        self.conversation_fd = -1
        self._label = Label("", "", {})
        self._texts: dict[bytes, Data] = {}
        self._free: list[Reg] = []
        self._marks: list[Mark] = []

    # steps and processes

    def step(self, text: str, pointer: str = "", hints: "dict[int, str] | None" = None) -> None:
        """Open a step: what follows is done for this reason.

        Shape   `text` completes "cannot ...", e.g. `mount tmpfs on /dev`; `hints` maps an errno to what to do.
        """
        self._label = Label(text, pointer, hints or {})

    def enter_process(self, name: str) -> None:
        """What follows runs in the process of this name (15 bytes: it is shown as `comm`)."""
        self.processes.append(name)
        self.process = len(self.processes) - 1
        self.step(f"begin as {name}")
        self.call("prctl", abi.PR_SET_NAME, self.text(name))

    # data

    def text(self, value: "str | bytes") -> Data:
        """A string with its terminating zero; equal strings share a place, so nobody may write to it."""
        raw = value.encode() if isinstance(value, str) else value
        found = self._texts.get(raw)
        if found is None:
            found = self._texts[raw] = Data(len(self.data), len(raw) + 1)
            self.data += raw + b"\0"
        return found

    def blob(self, value: "bytes | bytearray") -> Data:
        """Bytes of their own, 8-byte aligned; operations may write to them."""
        self.data += bytes(-len(self.data) % ops.DATA_ALIGN_BYTES)
        place = Data(len(self.data), len(value))
        self.data += value
        return place

    def reserve(self, size: int) -> Data:
        return self.blob(bytes(size))

    def words(self, values: "Sequence[int | Data]") -> Data:
        """An array of u64; a Data in it becomes a pointer (argv, iovec, attribute structures)."""
        numbers = []
        base = -(-len(self.data) // ops.DATA_ALIGN_BYTES) * ops.DATA_ALIGN_BYTES
        for index, value in enumerate(values):
            if isinstance(value, Data):
                self.relocations.append(base + 8 * index)
                numbers.append(value.offset)
            else:
                numbers.append(value & _U64)
        return self.blob(pack(f"<{len(numbers)}Q", *numbers))

    # operations

    def call(
        self,
        name: str,
        *args: "int | str | Data | Reg",
        ignore: "tuple[int, ...] | None" = None,
        jump: "tuple[int, ...] | None" = None,
        to: "Mark | None" = None,
    ) -> None:
        """Add an operation: a system call by its kernel name, or a special of ops.py by its capital name.

        `ignore`: errnos to go on after; `jump`: errnos to go on at `to` after. An empty tuple is any errno.
        """
        self._add(name, args, None, ignore, jump, to)

    def result(
        self,
        name: str,
        *args: "int | str | Data | Reg",
        ignore: "tuple[int, ...] | None" = None,
        jump: "tuple[int, ...] | None" = None,
        to: "Mark | None" = None,
        into: "Reg | None" = None,
    ) -> Reg:
        """The same, keeping the result in a register; `into` writes an existing one."""
        if into is None:
            into = self._free.pop() if self._free else Reg(self.registers)
            if into.number == self.registers:
                self.registers += 1
        self._add(name, args, into, ignore, jump, to)
        return into

    def close(self, fd: Reg) -> None:
        """Close the fd and let its register be used again."""
        self.call("close", fd)
        self._free.append(fd)

    def mark(self) -> Mark:
        mark = Mark()
        self._marks.append(mark)
        return mark

    def place(self, mark: Mark) -> None:
        mark.index = len(self.ops)

    def goto(self, mark: Mark) -> None:
        self._add("GOTO", (), None, None, None, mark)

    def branch(self, value: Reg, comparison: int, number: int, to: Mark) -> None:
        self._add("BRANCH", (value, comparison, number), None, None, None, to)

    def _add(
        self,
        name: str,
        args: "tuple[int | str | Data | Reg, ...]",
        dst: "Reg | None",
        ignore: "tuple[int, ...] | None",
        jump: "tuple[int, ...] | None",
        to: "Mark | None",
    ) -> None:
        for value in args:
            if type(value) is str:
                text = self.text
                args = tuple([text(a) if type(a) is str else a for a in args])
                break
        fail: int = ops.FATAL
        errnos: tuple[int, ...] = ()
        if ignore is not None:
            fail, errnos = ops.IGNORE, ignore
        elif jump is not None:
            fail, errnos = ops.JUMP, jump
        special = name in ops.CODES
        self.ops.append(
            Op(
                (
                    name if special else "SYSCALL",
                    "" if special else name,
                    args,
                    dst,
                    fail,
                    errnos,
                    to,
                    self.process,
                    self._label,
                )
            )
        )

    # reading back

    def label(self, index: int) -> Label:
        """The step of the operation with this index."""
        return self.ops[index].label

    def process_name(self, number: int) -> str:
        return self.processes[number] if number < len(self.processes) else str(number)
