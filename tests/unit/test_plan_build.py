"""The builder: what a recipe says is what the listing holds."""

import struct

import pytest

from skerry.plan import ops
from skerry.plan.build import Data, Plan


def plan() -> Plan:
    return Plan("x86_64")


def test_equal_strings_share_a_place() -> None:
    p = plan()
    first, again, other = p.text("abc"), p.text(b"abc"), p.text("abz")
    assert first.offset == again.offset != other.offset
    assert bytes(p.data[first.offset : first.offset + first.size]) == b"abc\0"


def test_strings_are_utf_8() -> None:
    p = plan()
    place = p.text("ü€")
    assert bytes(p.data[place.offset :]) == "ü€".encode() + b"\0"


def test_blobs_are_aligned_and_never_shared() -> None:
    """Operations may write to them (ops.py: a relocation lies at an aligned u64)."""
    p = plan()
    p.text("x")
    one, two = p.blob(b"12345678"), p.blob(b"12345678")
    assert one.offset % 8 == two.offset % 8 == 0
    assert one.offset != two.offset


def test_reserved_memory_is_zero() -> None:
    p = plan()
    place = p.reserve(24)
    assert bytes(p.data[place.offset : place.offset + 24]) == bytes(24)


def test_words_hold_numbers_and_pointers() -> None:
    """A pointer is the offset it leads to, and is listed as a relocation."""
    p = plan()
    target = p.text("target")
    place = p.words([7, target, -1, 0])
    values = struct.unpack_from("<4Q", p.data, place.offset)
    assert values == (7, target.offset, 0xFFFFFFFFFFFFFFFF, 0)
    assert p.relocations == [place.offset + 8]


def test_place_within_a_place() -> None:
    inner = Data(16, 40).at(28)
    assert (inner.offset, inner.size) == (44, 12)


def test_strings_among_arguments_become_data() -> None:
    p = plan()
    p.call("mount", "proc", "/proc", "proc", 0, "")
    (op,) = p.ops
    assert [type(a) for a in op.args] == [Data, Data, Data, int, Data]
    assert op.args[0].offset == op.args[2].offset
    assert (op.name, op.call) == ("SYSCALL", "mount")


def test_specials_are_known_by_their_names() -> None:
    p = plan()
    p.call("SIGNALS")
    assert (p.ops[0].name, p.ops[0].call) == ("SIGNALS", "")


def test_registers_are_used_again_once_closed() -> None:
    p = plan()
    first, second = p.result("dup", 0), p.result("dup", 0)
    assert (first.number, second.number, p.registers) == (0, 1, 2)
    p.close(first)
    assert p.result("dup", 0).number == 0
    assert p.result("dup", 0).number == 2
    assert p.registers == 3


def test_a_result_can_be_written_over() -> None:
    p = plan()
    register = p.result("dup", 0)
    assert p.result("dup", 1, into=register) is register
    assert p.registers == 1


@pytest.mark.parametrize(
    ("how", "fail", "errnos"),
    [
        ({}, ops.FATAL, ()),
        ({"ignore": (2, 20)}, ops.IGNORE, (2, 20)),
        ({"ignore": ()}, ops.IGNORE, ()),
        ({"jump": (38,)}, ops.JUMP, (38,)),
        ({"jump": ()}, ops.JUMP, ()),
    ],
    ids=["fatal", "some", "any", "jump", "jump on any"],
)
def test_what_a_failure_means(how: dict, fail: int, errnos: tuple) -> None:
    p = plan()
    mark = p.mark()
    p.call("dup", 0, **how, **({"to": mark} if "jump" in how else {}))
    p.place(mark)
    assert (p.ops[0].fail, p.ops[0].errnos) == (fail, errnos)
    assert (p.ops[0].target is mark) == ("jump" in how)
    assert mark.index == 1


def test_branches() -> None:
    p = plan()
    there = p.mark()
    p.branch(p.result("clone3", 0, 88), ops.EQ, 0, there)
    p.goto(there)
    p.place(there)
    assert [(op.name, op.target) for op in p.ops[1:]] == [("BRANCH", there), ("GOTO", there)]


def test_each_operation_keeps_its_step_and_process() -> None:
    """style 3: the index alone becomes a sentence."""
    p = plan()
    p.enter_process("skerry:1:outer")
    p.step("mount proc on /proc", "/mounts/0", {1: "a hint"})
    p.call("dup", 0)
    p.enter_process("skerry:2:init")
    p.step("other")
    p.call("dup", 0)
    middle, last = p.ops[1], p.ops[3]
    assert (middle.label.text, middle.label.pointer, middle.label.hints) == ("mount proc on /proc", "/mounts/0", {1: "a hint"})
    assert (last.label.text, last.label.pointer, last.label.hints) == ("other", "", {})
    assert [p.process_name(op.process) for op in p.ops] == ["skerry:1:outer"] * 2 + ["skerry:2:init"] * 2
    assert p.label(1) is middle.label


def test_a_process_is_named_for_ps() -> None:
    """prctl(2): comm takes 15 bytes."""
    p = plan()
    p.enter_process("skerry:1:outer")
    assert p.ops[0].call == "prctl"
    assert p.ops[0].args[0] == 15  # PR_SET_NAME
