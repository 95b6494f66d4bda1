"""The rule of a plan: system calls, what their failure means, jumps, registers."""

import errno
import os

import pytest
from assembler import Data, Label, Plan, Reg

from skerry.plan import ops


def test_end_of_operations_is_success(perform):
    assert perform(Plan()) == (0, None)


def test_a_call_with_its_arguments(perform):
    plan = Plan()
    plan.exit(42)
    assert perform(plan) == (42, None)


def test_results_go_on_in_registers(start):
    """openat -> register -> write -> close."""
    plan = Plan()
    fd = plan.register()
    text = plan.blob("hello")
    plan.call("openat", -100, plan.blob("/dev/null"), os.O_WRONLY, 0, to=fd)
    plan.call("write", fd, text, 5, to=fd)
    plan.call("exit_group", fd)
    assert start(plan).wait() == 5


def test_a_register_before_its_result(perform):
    """It is -1, so no fd by accident: an operation that was jumped over has opened nothing."""
    plan = Plan()
    plan.call("close", plan.register())
    assert perform(plan)[1].errno == errno.EBADF


def test_fatal_reports_and_ends(perform):
    plan = Plan()
    plan.process = 7
    plan.call("openat", -100, plan.blob("/nonexistent"), 0, 0)
    plan.exit(0)
    status, record = perform(plan)
    assert status == ops.EXIT_FAILED
    assert (record.kind, record.operation, record.errno) == (ops.FAILED, 0, errno.ENOENT)
    assert (record.process, record.value, record.rest) == (7, 0, b"")


@pytest.mark.parametrize("errnos", [(), (errno.ENOENT,), (errno.EPERM, errno.EACCES, errno.ENOENT)])
def test_ignored_errno_lands_in_the_register(perform, errnos):
    plan = Plan()
    result = plan.register()
    away = Label()
    plan.call("openat", -100, plan.blob("/nonexistent"), 0, 0, to=result, fail="IGNORE", errnos=errnos)
    plan.op("BRANCH", result, ops.EQ, -errno.ENOENT, target=away)
    plan.exit(1)
    plan.here(away)
    plan.exit(9)
    assert perform(plan) == (9, None)


def test_an_errno_that_is_not_listed_is_fatal(perform):
    plan = Plan()
    plan.call("openat", -100, plan.blob("/nonexistent"), 0, 0, fail="IGNORE", errnos=(errno.EPERM,))
    status, record = perform(plan)
    assert (status, record.errno) == (1, errno.ENOENT)


@pytest.mark.parametrize(("path", "expected"), [("/nonexistent", 5), ("/", 6)])
def test_jump_on_failure_only(perform, path, expected):
    plan = Plan()
    away = Label()
    plan.call("openat", -100, plan.blob(path), 0, 0, fail="JUMP", errnos=(errno.ENOENT,), target=away)
    plan.exit(6)
    plan.here(away)
    plan.exit(5)
    assert perform(plan) == (expected, None)


@pytest.mark.parametrize(
    ("value", "comparison", "number", "taken"),
    [
        (1, ops.EQ, 1, True),
        (1, ops.EQ, 2, False),
        (1, ops.NE, 2, True),
        (1, ops.NE, 1, False),
        (-1, ops.LT, 0, True),
        (0, ops.LT, -1, False),
        (0, ops.LT, 0, False),
        (1 << 62, ops.LT, 1, False),
    ],
)
def test_branch_compares_signed(perform, value, comparison, number, taken):
    plan = Plan()
    away = Label()
    plan.op("BRANCH", value, comparison, number, target=away)
    plan.exit(1)
    plan.here(away)
    plan.exit(2)
    assert perform(plan)[0] == (2 if taken else 1)


def test_goto_skips(perform):
    plan = Plan()
    away = Label()
    plan.op("GOTO", target=away)
    plan.exit(1)
    plan.here(away)
    assert perform(plan) == (0, None)


def test_load_and_store(perform):
    """A width of 4 is unsigned; a stored value is what a later call sees."""
    plan = Plan()
    low, all_ = plan.register(), plan.register()
    away, further = Label(), Label()
    at = plan.blob(b"\xff\xff\xff\xff\x01\0\0\0", 8)
    plan.op("LOAD", at, 4, to=low)
    plan.op("BRANCH", low, ops.EQ, 0xFFFFFFFF, target=away)
    plan.exit(1)
    plan.here(away)
    plan.op("LOAD", at, 8, to=all_)
    plan.op("BRANCH", all_, ops.EQ, 0x1FFFFFFFF, target=further)
    plan.exit(2)
    plan.here(further)
    plan.op("STORE", at, 4, 11)
    plan.op("LOAD", at, 8, to=all_)
    plan.op("STORE", at, 8, all_)
    plan.op("LOAD", at, 4, to=low)
    plan.call("exit_group", low)
    assert perform(plan) == (11, None)


def test_a_loaded_value_is_never_an_error(perform):
    plan = Plan()
    plan.op("LOAD", plan.blob(b"\xff" * 8, 8), 8, to=plan.register())
    assert perform(plan) == (0, None)


def test_clone3_goes_on_in_two_processes(start):
    plan = Plan()
    child = Label()
    pid = plan.fork(child)
    plan.op("WAIT", pid)
    plan.op("SEND", ops.PID, pid, -1)
    plan.exit(0)
    plan.here(child)
    plan.process = 2
    plan.op("SEND", ops.READY, 0, -1)
    run = start(plan)
    first, second = run.record(), run.record()
    assert (first.kind, first.process) == (ops.READY, 2)
    assert (second.kind, second.process) == (ops.PID, 0)
    assert second.value > 1
    assert run.wait() == 0


def test_wait_refuses_a_child_that_failed(perform):
    plan = Plan()
    child = Label()
    plan.op("WAIT", plan.fork(child))
    plan.exit(0)
    plan.here(child)
    plan.exit(3)
    status, record = perform(plan)
    assert (status, record.errno, record.operation) == (1, errno.EIO, 2)


@pytest.mark.parametrize("pid", [-1, 0, 1])
def test_wait_is_for_one_child_only(perform, pid):
    plan = Plan()
    plan.op("WAIT", pid)
    assert perform(plan)[1].errno == errno.ECHILD


def test_without_a_conversation_nothing_is_said(program, perform):
    plan = Plan()
    plan.call("close", -1)
    assert perform(plan.encode(-1)) == (ops.EXIT_FAILED, None)


def test_pointers_in_the_data_are_relocated(perform):
    """execve's argv and envp are arrays of pointers."""
    plan = Plan()
    plan.call(
        "execve",
        plan.blob("/bin/sh"),
        plan.strings(["sh", "-c", 'exit "$STATUS"']),
        plan.strings(["STATUS=77"]),
    )
    assert perform(plan) == (77, None)


def test_registers_up_to_the_limit(perform):
    plan = Plan()
    plan.registers = ops.REGISTERS
    last = Reg(ops.REGISTERS - 1)
    plan.op("LOAD", plan.blob(b"\x21\0\0\0", 8), 4, to=last)
    plan.call("exit_group", last)
    assert perform(plan) == (33, None)


def test_a_plan_near_the_limit(perform):
    plan = Plan()
    plan.blob(b"x" * (ops.PLAN_LIMIT_BYTES - 4096))
    text = plan.blob("/bin/sh")
    assert isinstance(text, Data)
    plan.exit(12)
    assert perform(plan) == (12, None)
