"""Mutated plans: a second reading of the rules (rules.py) and skerry-init must agree on each (V09)."""

import errno
import os
import random
import struct

from assembler import Label, Plan, Reg, sealed
from rules import HEADER_BYTES, OP_BYTES, get_header, is_valid

from skerry.plan import ops

MUTATIONS = int(os.environ.get("SKERRY_FUZZ_PLANS", "20000"))


def harmless_plan() -> bytes:
    """All operations that neither wait nor change anything but an empty working directory."""
    plan = Plan()
    end, further = Label(), Label()
    number, found = plan.register(), plan.register()
    room = plan.room(64)
    true = plan.blob("/bin/true")
    paths = plan.pointers([plan.blob("/nonexistent"), true])
    argv = plan.strings(["true"])
    ignore = {"fail": "IGNORE"}
    getpid = {0: 39, 1: 172}[plan.column]
    plan.op("SYSCALL", number=getpid, to=number)
    plan.op("SYSCALL", number=getpid, to=number, fail="IGNORE", errnos=(1, 2))
    plan.op("STORE", room, 8, number)
    plan.op("LOAD", room, 4, to=number)
    plan.op("BRANCH", number, ops.LT, 0, target=end)
    plan.op("SEND", ops.READY, number, -1, **ignore)
    plan.op("RECV", ops.GO, room, 63, to=number, **ignore)
    plan.op("RECV", ops.GO, 0, 0, fail="JUMP", errnos=(errno.EBADF,), target=further)
    plan.here(further)
    plan.op("WRITE", 1, room, 64, **ignore)
    plan.op("WALK", -100, plan.blob("a/b"), ops.WALK_DIRECTORY, 0o755, to=number, **ignore)
    plan.op("CHECK", number, 0o40000, 0, 0, 0, **ignore)
    plan.op("CHECKCWD")
    plan.op("SIGNALS")
    plan.op("FIND", paths, 2, to=found)
    plan.op("HOOK", true, argv, argv, room, 64, 1000)
    plan.op("COPYTREE", number, number, **ignore)
    plan.op("WAIT", Reg(0), **ignore)
    plan.op("GOTO", target=end)
    plan.op("CLOSE", 4, number, -1, 7)
    plan.here(end)
    return plan.encode()


INTERESTING = (0, 1, 2, 3, 4, 7, 8, 9, 63, 64, 65, 255, 256, 4095, 4096, 0x7FFF, 0xFFFE, 0xFFFF, 1 << 20,
               (1 << 31) - 1, 1 << 31, (1 << 32) - 8, (1 << 32) - 1, 1 << 32, 1 << 61, (1 << 63) - 1, 1 << 63,
               (1 << 64) - 8, (1 << 64) - 1)  # fmt: skip
WIDTHS = [[4] * 10, [2, 2, 2, 1, 1, 2, 2, 2, 2, 4, 1, 1, 1, 1, 1, 1, 2, 4, 8, 8, 8, 8, 8, 8]]


def fields(start: int, widths: list[int]) -> list[tuple[int, int]]:
    places = []
    for width in widths:
        places.append((start, width))
        start += width
    return places


def mutate(plan: bytearray, rng: random.Random) -> bytearray:
    """Change one field, or cut, lengthen, or move something."""
    count, places = get_header(plan, "operations"), get_header(plan, "relocations")
    choice = rng.random()
    if choice < 0.1:
        candidates = fields(0, WIDTHS[0])
    elif choice < 0.8:
        candidates = fields(HEADER_BYTES + rng.randrange(count) * OP_BYTES, WIDTHS[1])
    elif choice < 0.88:
        candidates = fields(HEADER_BYTES + count * OP_BYTES, [4] * places)
    elif choice < 0.96:
        candidates = fields(get_header(plan, "offset"), [8] * (get_header(plan, "size") // 8))
    elif choice < 0.98:
        return plan[: rng.randrange(len(plan))]
    else:
        return plan + bytes(rng.randrange(1, 64))
    at, width = rng.choice(candidates or fields(0, WIDTHS[0]))
    old = int.from_bytes(plan[at : at + width], "little")
    new = rng.choice((rng.choice(INTERESTING), old + 1, old - 1, old ^ 1 << rng.randrange(8 * width),
                      rng.randrange(32)))  # fmt: skip
    plan[at : at + width] = (new % (1 << 8 * width)).to_bytes(width, "little")
    return plan


def may_run(plan: bytes, harmless: bytes) -> bool:
    """Not where a mutation asks for another system call, or for one of the operations that wait for ever."""
    for index in range(get_header(plan, "operations")):
        at = HEADER_BYTES + index * OP_BYTES
        code, _, number = struct.unpack_from("<HHH", plan, at)
        if code in (ops.CODES["PARK"], ops.CODES["GATE"]):
            return False
        if code == ops.CODES["SYSCALL"] and plan[at : at + 6] != harmless[at : at + 6]:
            return False
    return True


def exit_status(program: str, plan: bytes) -> int:
    fd = sealed(plan)
    try:
        moves = [(os.POSIX_SPAWN_DUP2, fd, 3)]
        pid = os.posix_spawn(program, [program, "3"], {}, file_actions=moves)
    finally:
        os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_mutations(program, tmp_path, monkeypatch):
    """A second reading of the rules agrees on every mutated plan, and nothing ends by a signal.

    Deterministic; one to three changes each; valid ones are performed, in an empty directory, as nobody's business.
    """
    harmless = harmless_plan()
    monkeypatch.chdir(tmp_path)
    quiet = [os.dup(fd) for fd in (0, 1, 2)]
    null = os.open("/dev/null", os.O_RDWR)
    seen = {True: 0, False: 0}
    try:
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        assert exit_status(program[0], harmless) == 0
        for seed in range(MUTATIONS):
            rng = random.Random(seed)
            plan = bytearray(harmless)
            for _ in range(rng.randrange(1, 4)):
                if len(plan) > HEADER_BYTES and is_valid(bytes(plan)):
                    plan = mutate(plan, rng)
            valid = is_valid(bytes(plan))
            if valid and not may_run(plan, harmless):
                continue
            seen[valid] += 1
            status = exit_status(program[0], bytes(plan))
            assert status >= 0, (seed, status)
            assert (status != ops.EXIT_REFUSED) == valid, (seed, status, valid)
    finally:
        for fd, old in enumerate(quiet):
            os.dup2(old, fd)
            os.close(old)
        os.close(null)
    assert min(seen.values()) > MUTATIONS / 20
