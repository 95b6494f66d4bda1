"""Plans that do not fit are refused whole, before the first operation (V09)."""

import errno
import os
import struct

import pytest
from assembler import SEALS, Data, Label, Plan
from rules import HEADER_BYTES, HEADER_FIELDS, OP_BYTES, get_header, is_valid

from skerry.plan import ops


def small_plan(conversation: int = -1, kind: str = "SYSCALL") -> bytearray:
    """One operation of a kind, between two that would be noticed."""
    plan = Plan()
    away = Label()
    plan.registers = 2
    room = plan.room(32)
    path = plan.blob("path")
    pointers = plan.pointers([path, path])
    rows = {
        "SYSCALL": (1, 2, 3),
        "LOAD": (room, 8),
        "STORE": (room, 8, 1),
        "GOTO": (),
        "BRANCH": (1, ops.EQ, 2),
        "SEND": (ops.READY, 0, -1),
        "RECV": (ops.GO, room, 16),
        "WRITE": (1, room, 8),
        "WALK": (3, path, ops.WALK_DIRECTORY, 0o755),
        "CHECK": (3, 0, 0, 0, 0),
        "CHECKCWD": (),
        "SIGNALS": (),
        "FIND": (pointers, 2),
        "HOOK": (path, pointers, pointers, room, 8, 0),
        "GATE": (3, -1),
        "CLOSE": (3, 4, 5, 6, 7, 8),
        "COPYTREE": (3, 4),
        "PARK": (),
        "WAIT": (1,),
    }
    plan.exit(99)
    plan.op(kind, *rows[kind], target=away if kind in ("GOTO", "BRANCH") else None)
    plan.exit(98)
    plan.here(away)
    return bytearray(plan.encode(conversation))


class Field:
    """Where a field of the second operation of a plan is, by its place in OP_FORMAT."""

    code, result, number = (0, "H"), (2, "H"), (4, "H")
    fail, used = (6, "B"), (7, "B")
    target, reserved = (16, "I"), (28, "I")

    @staticmethod
    def errno(number: int) -> tuple[int, str]:
        return 8 + 2 * number, "H"

    @staticmethod
    def kind(place: int) -> tuple[int, str]:
        return 20 + place, "B"

    @staticmethod
    def arg(place: int) -> tuple[int, str]:
        return 32 + 8 * place, "Q"


def set_header(plan: bytearray, **values: int) -> None:
    for name, value in values.items():
        struct.pack_into("<I", plan, 4 * HEADER_FIELDS.index(name), value % (1 << 32))


def refused(start, plan: bytes, **options):
    """Run it: the record of the refusal. A plan that ran would have left with 99."""
    run = start(bytes(plan), **options)
    assert run.wait() == ops.EXIT_REFUSED
    return run.record()


@pytest.fixture
def refuse(start):
    """Refuse a plan built for a conversation: (reason, index)."""

    def refuse_one(build) -> tuple[str, int]:
        run = start(Conversing(build))
        assert run.wait() == ops.EXIT_REFUSED
        record = run.record()
        assert (record.kind, record.operation) == (ops.FAILED, ops.NO_OPERATION)
        assert (record.errno, record.process, record.rest) == (errno.EINVAL, 0, b"")
        reasons = {number: name for name, number in ops.REFUSALS.items()}
        return reasons[record.value & 0xFFFFFFFF], record.value >> 32

    return refuse_one


class Conversing(Plan):
    """A plan of bytes that learn the number of their conversation late."""

    def __init__(self, build) -> None:
        self.build = build

    def encode(self, conversation: int = -1) -> bytes:
        return bytes(self.build(conversation))


ROWS = [name for name in ops.OPS]


@pytest.mark.parametrize("kind", ROWS)
def test_the_rows_themselves_are_taken(start, kind):
    """The positive control: unharmed, each of these plans reaches its first operation."""
    plan = small_plan(kind=kind)
    assert is_valid(bytes(plan))
    assert start(bytes(plan)).wait() == 99


# where nobody can be told


@pytest.mark.parametrize(
    "plan",
    [b"", b"\0" * (HEADER_BYTES - 1), b"\0" * HEADER_BYTES, b"\x7fELF" + b"\0" * 100, b"\0" * 4096],
)
def test_what_is_no_plan(start, plan):
    assert refused(start, plan) is None


@pytest.mark.parametrize("field", ["magic", "version"])
def test_a_foreign_version(start, field):
    plan = small_plan()
    set_header(plan, **{field: get_header(plan, field) + 1})
    assert refused(start, plan) is None


def test_a_plan_larger_than_the_limit(start):
    plan = small_plan() + bytes(ops.PLAN_LIMIT_BYTES)
    assert refused(start, plan) is None


@pytest.mark.parametrize("argument", [[], ["3", "4"], [""], ["x"], ["-1"], ["3x"], ["1" * 10], ["999"], [" 3"]])
def test_what_is_no_number_of_an_fd(program, argument):
    import subprocess

    done = subprocess.run([*program, *argument], stdin=subprocess.DEVNULL)
    assert done.returncode == ops.EXIT_REFUSED


@pytest.mark.parametrize("kind", ["directory", "pipe", "socket"])
def test_an_fd_that_is_no_file(program, kind, tmp_path):
    import socket
    import subprocess

    open_ = {
        "directory": lambda: [os.open(tmp_path, os.O_RDONLY)],
        "pipe": lambda: list(os.pipe()),
        "socket": lambda: [end.detach() for end in socket.socketpair()],
    }
    fds = open_[kind]()
    done = subprocess.run([*program, str(fds[0])], pass_fds=fds, stdin=subprocess.DEVNULL)
    for fd in fds:
        os.close(fd)
    assert done.returncode == ops.EXIT_REFUSED


# the header


@pytest.mark.parametrize("missing", [0x8, 0x2, 0x8 | 0x2, 0xF])
def test_a_plan_without_seals(start, missing):
    """F_SEAL_WRITE and F_SEAL_SHRINK: what was checked stays so."""
    run = start(Conversing(small_plan), seals=SEALS & ~missing)
    assert run.wait() == ops.EXIT_REFUSED
    assert run.record().value == ops.REFUSALS["SEALS"]


def test_a_plan_in_an_ordinary_file(program, tmp_path):
    import subprocess

    (tmp_path / "plan").write_bytes(small_plan())
    with open(tmp_path / "plan", "rb") as file:
        done = subprocess.run([*program, str(file.fileno())], pass_fds=[file.fileno()])
    assert done.returncode == ops.EXIT_REFUSED


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("total", 1),
        ("total", -1),
        ("total", 1 << 31),
        ("operations", 1),
        ("operations", 1 << 30),
        ("operations", 0xFFFFFFF0),
        ("relocations", 1 << 20),
        ("relocations", 1 << 30),
        ("registers", ops.REGISTERS),
        ("registers", 1 << 31),
        ("offset", 8),
        ("offset", -8),
        ("offset", 1),
        ("offset", 1 << 31),
        ("size", 1),
        ("size", -1),
        ("size", 1 << 31),
        ("reserved", 1),
        ("reserved", 1 << 31),
    ],
)
def test_a_header_that_does_not_fit(refuse, field, change):
    def build(conversation: int) -> bytes:
        plan = small_plan(conversation)
        set_header(plan, **{field: get_header(plan, field) + change})
        return plan

    assert refuse(build) == ("LAYOUT", 0)


@pytest.mark.parametrize("end", [HEADER_BYTES, HEADER_BYTES + OP_BYTES, -8, -1])
def test_a_plan_that_was_cut(refuse, end):
    assert refuse(lambda conversation: small_plan(conversation)[:end]) == ("LAYOUT", 0)


@pytest.mark.parametrize("conversation", [-2, -(1 << 31)])
def test_a_negative_conversation(start, conversation):
    assert refused(start, small_plan(conversation)) is None


def test_data_without_an_end(refuse):
    def build(conversation: int) -> bytes:
        plan = small_plan(conversation)
        plan[-1] = ord("x")
        return plan

    assert refuse(build) == ("END", 0)


def test_a_plan_without_data(start):
    plan = Plan()
    plan.exit(5)
    raw = bytearray(plan.encode()[:-1])
    set_header(raw, total=len(raw), size=0)
    assert is_valid(bytes(raw))
    assert start(bytes(raw)).wait() == 5


# the operations

BAD = 0xFFFFFFFFFFFFFFFF
FIELDS = [
    ("CODE", "SYSCALL", Field.code, len(ops.OPS)),
    ("CODE", "SYSCALL", Field.code, 0xFFFF),
    ("CODE", "SYSCALL", Field.reserved, 1),
    ("CODE", "LOAD", Field.number, 1),
    ("REGISTER", "SYSCALL", Field.result, 2),
    ("REGISTER", "SYSCALL", Field.result, 0xFFFE),
    ("ARGUMENTS", "SYSCALL", Field.used, 7),
    ("ARGUMENTS", "SYSCALL", Field.used, 2),
    ("ARGUMENTS", "SYSCALL", Field.kind(0), 3),
    ("ARGUMENTS", "SYSCALL", Field.kind(0), 255),
    ("ARGUMENTS", "SYSCALL", Field.kind(5), 1),
    ("ARGUMENTS", "SYSCALL", Field.arg(5), 1),
    ("RANGE", "SYSCALL", (), ((Field.kind(0), ops.DATA), (Field.arg(0), 1 << 20))),
    ("RANGE", "SYSCALL", (), ((Field.kind(0), ops.DATA), (Field.arg(0), BAD))),
    ("REGISTER", "SYSCALL", (), ((Field.kind(0), ops.REGISTER), (Field.arg(0), 2))),
    ("REGISTER", "SYSCALL", (), ((Field.kind(0), ops.REGISTER), (Field.arg(0), BAD))),
    ("RANGE", "LOAD", Field.arg(1), 0),
    ("RANGE", "LOAD", Field.arg(1), 2),
    ("RANGE", "LOAD", Field.arg(1), 16),
    ("ARGUMENTS", "LOAD", Field.kind(0), ops.NUMBER),
    ("ARGUMENTS", "LOAD", Field.kind(1), ops.REGISTER),
    ("RANGE", "STORE", Field.arg(1), 9),
    ("RANGE", "BRANCH", Field.arg(1), 3),
    ("TARGET", "BRANCH", Field.target, 1),
    ("TARGET", "BRANCH", Field.target, 0),
    ("TARGET", "GOTO", Field.target, 4),
    ("TARGET", "GOTO", Field.target, 0xFFFFFFFF),
    ("TARGET", "SYSCALL", Field.target, 2),
    ("TARGET", "SYSCALL", Field.fail, ops.JUMP),
    ("FAIL", "SYSCALL", Field.fail, 3),
    ("FAIL", "GOTO", Field.fail, ops.IGNORE),
    ("FAIL", "BRANCH", Field.fail, ops.JUMP),
    ("FAIL", "HOOK", Field.fail, ops.IGNORE),
    ("FAIL", "SYSCALL", Field.errno(0), 1),
    ("FAIL", "SYSCALL", (), ((Field.fail, ops.IGNORE), (Field.errno(0), 4096))),
    ("FAIL", "SYSCALL", (), ((Field.fail, ops.IGNORE), (Field.errno(1), 1))),
    ("RANGE", "SEND", Field.arg(0), 1 << 32),
    ("RANGE", "RECV", Field.arg(0), 1 << 32),
    ("RANGE", "RECV", Field.arg(2), 1 << 12),
    ("RANGE", "RECV", Field.arg(2), BAD),
    ("RANGE", "RECV", Field.kind(1), ops.NUMBER),
    ("RANGE", "WRITE", Field.arg(2), 1 << 12),
    ("RANGE", "WRITE", Field.arg(2), BAD),
    ("RANGE", "WALK", Field.arg(2), 0),
    ("RANGE", "WALK", Field.arg(2), ops.WALK_NOFOLLOW),
    ("RANGE", "WALK", Field.arg(2), ops.WALK_DIRECTORY | ops.WALK_FILE),
    ("RANGE", "WALK", Field.arg(2), 32 | ops.WALK_FILE),
    ("RANGE", "WALK", Field.arg(2), 1 << 40 | ops.WALK_FILE),
    ("RANGE", "WALK", Field.arg(3), 0o10000),
    ("ARGUMENTS", "WALK", Field.kind(1), ops.NUMBER),
    ("RANGE", "FIND", Field.arg(1), 1 << 12),
    ("RANGE", "FIND", Field.arg(1), 1 << 61),
    ("RANGE", "FIND", Field.arg(0), 4),
    ("RANGE", "HOOK", Field.arg(4), 1 << 12),
    ("ARGUMENTS", "HOOK", Field.kind(0), ops.REGISTER),
    ("ARGUMENTS", "CLOSE", (), ((Field.used, 0), *[(Field.arg(n), 0) for n in range(6)])),
    ("ARGUMENTS", "PARK", Field.used, 1),
    ("ARGUMENTS", "WAIT", Field.used, 0),
]


@pytest.mark.parametrize(("reason", "kind", "field", "value"), FIELDS)
def test_an_operation_that_does_not_fit(refuse, reason, kind, field, value):
    """Reason and index are told; the operation before it was not performed."""

    def build(conversation: int) -> bytes:
        plan = small_plan(conversation, kind)
        for (offset, width), number in value if isinstance(value, tuple) else ((field, value),):
            struct.pack_into(f"<{width}", plan, HEADER_BYTES + OP_BYTES + offset, number)
        assert not is_valid(bytes(plan))
        return plan

    assert refuse(build) == (reason, 1)


def encoded(conversation: int, build) -> bytes:
    plan = Plan()
    build(plan)
    return plan.encode(conversation)


def store_at_the_end(plan: Plan) -> None:
    plan.op("STORE", Data(plan.room(8) + 1), 8, 1)


def receive_to_the_end(plan: Plan) -> None:
    plan.op("RECV", ops.GO, plan.room(8), 9)


def load_beyond_the_end(plan: Plan) -> None:
    plan.op("LOAD", Data(plan.room(8) + 2), 8, to=plan.register())


@pytest.mark.parametrize("build", [store_at_the_end, receive_to_the_end, load_beyond_the_end])
def test_the_last_byte_ends_every_string(refuse, build):
    assert refuse(lambda conversation: encoded(conversation, build)) == ("RANGE", 0)


@pytest.mark.parametrize(
    ("places", "value", "index"),
    [
        ([1], 0, 0),
        ([8 * 1000], 0, 0),
        ([0xFFFFFFF8], 0, 0),
        ([0], 17, 0),
        ([0], BAD, 0),
        ([0, 0], 0, 1),
        ([0, 8, 16], 0, 2),
    ],
)
def test_a_relocation_that_does_not_fit(refuse, places, value, index):
    """Also one that is listed twice, and one that reaches the last byte. Data: two words and the end."""

    def build(plan: Plan) -> None:
        plan.blob(value.to_bytes(8, "little") + bytes(8), 8)
        plan.relocations = places

    assert refuse(lambda conversation: encoded(conversation, build)) == ("RELOCATION", index)
