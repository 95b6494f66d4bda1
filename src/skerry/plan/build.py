"""The builder of plans: operations, registers, labels and the data they point into.

Runs in: create, exec (hot); pure.   Imports: struct, linux.abi, plan.ops.
Source:  plan/ops.py is the table this follows.
Never:   touches the world; nothing happens until skerry-init reads the encoded plan.

A plan is a listing. Each operation belongs to a step ("mount tmpfs on /dev", with the JSON pointer of the spec that
asked for it) and to a process; both are kept here, by the operation's index, and turn a bare (index, errno) of
skerry-init into a sentence.

A plan has hundreds of operations and is made in every create, so each is encoded when it is added, in one walk over its
arguments; of the listing only a row is kept, and `ops` reads it when somebody asks.
"""

from struct import Struct, pack

from skerry.linux import abi
from skerry.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_U64 = 0xFFFFFFFFFFFFFFFF
_NO_HINTS: "dict[int, str]" = {}

# ops.OP_FORMAT by the number of arguments; errnos and kinds are bytes here, which `s` fills up with zeros.
_PACK = [
    Struct(f"<HHHBB{2 * ops.ERRNOS}sI{ops.ARGUMENTS}sHI{count}Q{8 * (ops.ARGUMENTS - count)}x").pack
    for count in range(ops.ARGUMENTS + 1)
]
_TARGET_OFFSET = 16

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


if TYPE_CHECKING:
    _Argument = int | str | Data | Reg
    # name, arguments, dst, fail, errnos, target, process, label
    _Row = tuple[
        str, tuple[_Argument, ...], Reg | None, int, tuple[int, ...], Mark | None, int, Label
    ]


class Op:
    """One entry of the listing."""

    __slots__ = ("name", "call", "args", "dst", "fail", "errnos", "target", "process", "label")

    def __init__(self, plan: "Plan", row: "_Row") -> None:
        name, args, self.dst, self.fail, self.errnos, self.target, self.process, self.label = row
        special = name in ops.CODES
        self.name = name if special else "SYSCALL"  # of ops.py
        self.call = "" if special else name  # the system call, "" for specials
        self.args = tuple([plan.text(arg) if isinstance(arg, str) else arg for arg in args])


class Plan:
    """A listing under construction.

    `process` numbers the process the next operations belong to; `processes` names them (for `comm` and errors).
    `fds` says what each fd that the plan starts with is, for the listing.
    """

    __slots__ = ("rows", "code", "data", "relocations", "registers", "process", "processes", "fds",
                 "conversation_fd", "machine", "_label", "_texts", "_free", "_jumps")  # fmt: skip

    def __init__(self, machine: str) -> None:
        self.machine = abi.MACHINES[machine]
        self.rows: list[_Row] = []
        self.code = bytearray()
        self.data = bytearray()
        self.relocations: list[int] = []
        self.registers = 0
        self.process = 0
        self.processes: list[str] = []
        self.fds: dict[int, str] = {}
        self.conversation_fd = -1
        self._label = Label("", "", _NO_HINTS)
        self._texts: dict[bytes, Data] = {}
        self._free: list[Reg] = []
        self._jumps: list[tuple[int, Mark]] = []

    # steps and processes

    def step(self, text: str, pointer: str = "", hints: "dict[int, str] | None" = None) -> None:
        """Open a step: what follows is done for this reason.

        Shape   `text` completes "cannot ...", e.g. `mount tmpfs on /dev`; `hints` maps an errno to what to do.
        """
        self._label = Label(text, pointer, hints or _NO_HINTS)

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
        if ignore is not None:
            self._add(name, args, None, ops.IGNORE, ignore, None)
        elif jump is not None:
            self._add(name, args, None, ops.JUMP, jump, to)
        else:
            self._add(name, args, None, ops.FATAL, (), None)

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
        if ignore is not None:
            self._add(name, args, into, ops.IGNORE, ignore, None)
        elif jump is not None:
            self._add(name, args, into, ops.JUMP, jump, to)
        else:
            self._add(name, args, into, ops.FATAL, (), None)
        return into

    def close(self, fd: Reg) -> None:
        """Close the fd and let its register be used again."""
        self._add("close", (fd,), None, ops.FATAL, (), None)
        self._free.append(fd)

    def mark(self) -> Mark:
        return Mark()

    def place(self, mark: Mark) -> None:
        mark.index = len(self.rows)

    def goto(self, mark: Mark) -> None:
        self._add("GOTO", (), None, ops.FATAL, (), mark)

    def branch(self, value: Reg, comparison: int, number: int, to: Mark) -> None:
        self._add("BRANCH", (value, comparison, number), None, ops.FATAL, (), to)

    def _add(
        self,
        name: str,
        args: "tuple[_Argument, ...]",
        dst: "Reg | None",
        fail: int,
        errnos: "tuple[int, ...]",
        target: "Mark | None",
    ) -> None:
        kinds = []
        values = []
        for value in args:
            kind = type(value)
            if kind is int:
                kinds.append(ops.NUMBER)
                values.append(value & _U64)  # type: ignore[operator]
            elif kind is Reg:
                kinds.append(ops.REGISTER)
                values.append(value.number)  # type: ignore[union-attr]
            else:
                place = self.text(value) if kind is str else value  # type: ignore[arg-type]
                kinds.append(ops.DATA)
                values.append(place.offset)  # type: ignore[union-attr]
        code = ops.CODES.get(name)
        if target is not None:
            self._jumps.append((len(self.code) + _TARGET_OFFSET, target))
        self.code += _PACK[len(values)](
            code or 0,
            ops.NO_REGISTER if dst is None else dst.number,
            abi.SYSCALLS[name][self.machine] if code is None else 0,
            fail,
            len(values),
            pack(f"<{len(errnos)}H", *errnos) if errnos else b"",
            0,
            bytes(kinds),
            self.process,
            0,
            *values,
        )
        self.rows.append((name, args, dst, fail, errnos, target, self.process, self._label))

    def operations(self) -> bytearray:
        """All operations as skerry-init reads them."""
        for place, mark in self._jumps:
            self.code[place : place + 4] = mark.index.to_bytes(4, "little")
        return self.code

    # reading back

    @property
    def ops(self) -> list[Op]:
        """The listing."""
        return [Op(self, row) for row in self.rows]

    def label(self, index: int) -> Label:
        """The step of the operation with this index."""
        return self.rows[index][-1]

    def process_name(self, number: int) -> str:
        return self.processes[number] if number < len(self.processes) else str(number)
