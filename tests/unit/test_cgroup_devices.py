"""native/cgroup/devices.py: what the eBPF program answers, and the lines for cgroup v1.

The program is run by a small interpreter of the eBPF instruction set, written from the kernel's
description of it. What it should answer is said by an oracle that knows nothing of instructions:
for each of r, w and m the last rule decides.
"""

import random
import struct

import pytest

from skerry.errors import SpecError
from skerry.native.cgroup import devices

BITS = {"m": 1, "r": 2, "w": 4}
KINDS = {"b": 1, "c": 2}
DENY_ALL = {"allow": False, "access": "rwm"}


def run(program: bytes, kind: str, major: int, minor: int, access: str) -> int:
    """Interpret: registers of 64 bit, jumps relative to the next instruction, r1 = context."""
    asked = sum(BITS[letter] for letter in access)
    context = struct.pack("=III", asked << 16 | KINDS[kind], major, minor)
    registers = {1: "context"}
    at = 0
    for _ in range(len(program)):
        code, both, offset, immediate = struct.unpack_from("=BBhI", program, at * 8)
        dst, src = both & 15, both >> 4
        at += 1
        if code == 0x61:
            assert registers[src] == "context"
            registers[dst] = struct.unpack_from("=I", context, offset)[0]
        elif code == 0xB4:
            registers[dst] = immediate
        elif code == 0x54:
            registers[dst] &= immediate
        elif code == 0x74:
            registers[dst] >>= immediate
        elif code == 0x05:
            at += offset
        elif code == 0x56:
            at += offset if registers[dst] != immediate else 0
        elif code == 0x46:
            at += offset if registers[dst] & immediate else 0
        elif code == 0x95:
            return registers[0]
        else:
            raise AssertionError(f"unknown instruction {code:#x}")
    raise AssertionError("the program does not end")


def oracle(rules: list[dict], kind: str, major: int, minor: int, access: str) -> bool:
    def verdict(letter):
        answer = False
        for rule in rules:
            if (
                rule.get("type", "a") in ("a", kind)
                and rule.get("major", -1) in (-1, major)
                and rule.get("minor", -1) in (-1, minor)
                and letter in rule.get("access", "rwm")
            ):
                answer = rule["allow"]
        return answer

    return all(verdict(letter) for letter in access)


def defaults() -> list[dict]:
    return [
        {"allow": True, "type": k, "major": a, "minor": i, "access": x}
        for k, a, i, x in devices.DEFAULT_RULES
    ]


def program(given: list[dict]) -> bytes:
    return devices.program(devices.rules({"devices": given}, "/linux/resources"))


def permitted(given: list[dict], *request) -> bool:
    return bool(run(program(given), *request))


@pytest.mark.parametrize("given", [[], [DENY_ALL], None])
def test_an_empty_list_is_no_allow_all(given):
    """V07: nothing said means the default list, never everything."""
    code = devices.program(devices.rules({"devices": given} if given is not None else {}, ""))
    assert run(code, "c", 1, 3, "rw") == 1  # null: the control
    assert run(code, "b", 7, 0, "m") == 1  # making nodes is allowed to all
    for request in (("b", 7, 0, "r"), ("c", 1, 11, "w"), ("b", 7, 0, "rm"), ("c", 1, 1, "rwm")):
        assert run(code, *request) == 0


def test_privileged_is_everything():
    assert permitted([{"allow": True, "access": "rwm"}], "b", 8, 0, "rwm")


def test_an_allow_of_one_access_is_not_all():
    rule = {"allow": True, "type": "a", "access": "r"}
    assert permitted([rule], "b", 8, 0, "r")
    assert not permitted([rule], "b", 8, 0, "w")


def test_the_last_rule_wins_for_each_access_alone():
    given = [
        {"allow": True, "type": "c", "major": 7, "access": "rw"},
        {"allow": False, "type": "c", "major": 7, "minor": 3, "access": "w"},
    ]
    assert permitted(given, "c", 7, 4, "rw") and permitted(given, "c", 7, 3, "r")
    # a request for both must not slip past a rule about one
    assert not permitted(given, "c", 7, 3, "rw") and not permitted(given, "c", 7, 3, "w")


def test_two_rules_may_grant_one_request_together():
    given = [
        {"allow": True, "type": "b", "major": 9, "access": "r"},
        {"allow": True, "type": "b", "minor": 1, "access": "w"},
    ]
    assert permitted(given, "b", 9, 1, "rw")
    assert not permitted(given, "b", 9, 2, "rw")


def test_the_largest_numbers():
    given = [{"allow": True, "type": "c", "major": 0xFFFFFFFF, "minor": 0xFFFFFFFF}]
    assert permitted(given, "c", 0xFFFFFFFF, 0xFFFFFFFF, "r")
    assert not permitted(given, "c", 0xFFFFFFFE, 0xFFFFFFFF, "r")


def some_rules(chance: random.Random) -> list[dict]:
    rules = []
    for _ in range(chance.randrange(9)):
        rule = {"allow": chance.random() < 0.5, "type": chance.choice("aabc")}
        for key in ("major", "minor"):
            if chance.random() < 0.6:
                rule[key] = chance.choice((-1, 0, 1, 2))
        rule["access"] = "".join(chance.sample("rwm", chance.randrange(1, 4)))
        rules.append(rule)
    return rules


@pytest.mark.parametrize("seed", range(40))
def test_any_rules_against_the_oracle(seed):
    chance = random.Random(seed)
    given = some_rules(chance)
    code = program(given)
    for kind in "bc":
        for major in (0, 1, 2, 3, 136):
            for minor in (0, 1, 2, 3):
                for access in ("r", "w", "m", "rw", "rwm", "wm"):
                    request = (kind, major, minor, access)
                    assert bool(run(code, *request)) == oracle(given + defaults(), *request), (
                        request
                    )


def v1(given: list[dict], current: str = "a *:* rwm"):
    rules = devices.rules({"devices": given}, "/linux/resources")
    return [(file, line) for file, line, _ in devices.v1_lines(rules, current)]


# what runc 1.1.5 leaves in devices.list for {"allow": false, "access": "rwm"}
RUNC_LIST = """\
b *:* m
c *:* m
c 1:3 rwm
c 1:5 rwm
c 1:7 rwm
c 1:8 rwm
c 1:9 rwm
c 5:0 rwm
c 5:2 rwm
c 10:200 rwm
c 136:* rwm"""


def test_v1_denies_all_first():
    """V07"""
    lines = v1([])
    assert lines[0] == ("devices.deny", "a")
    assert sorted(line for _, line in lines[1:]) == sorted(RUNC_LIST.split("\n"))
    assert {file for file, _ in lines[1:]} == {"devices.allow"}


def test_v1_writes_the_difference_only():
    """V07: an update leaves the list alone, and takes nothing away for a moment."""
    assert v1([DENY_ALL], RUNC_LIST) == []
    one = {"allow": True, "type": "b", "major": 7, "minor": 0, "access": "rw"}
    assert v1([DENY_ALL, one], RUNC_LIST) == [("devices.allow", "b 7:0 rw")]
    assert v1([DENY_ALL], f"{RUNC_LIST}\nb 7:0 rw") == [("devices.deny", "b 7:0 rw")]


def test_v1_of_a_privileged_container():
    assert v1([{"allow": True, "access": "rwm"}]) == [("devices.allow", "a")]
    given = [{"allow": True}, {"allow": False, "type": "b", "major": 8, "access": "w"}]
    assert v1(given) == [("devices.allow", "a"), ("devices.deny", "b 8:* w")]


def test_v1_takes_back_a_rule():
    one = {"type": "c", "major": 7, "minor": 1, "access": "rw"}
    assert ("devices.allow", "c 7:1 rw") in v1([{"allow": True, **one}])
    wide = {"allow": False, "type": "c", "major": 7, "access": "w"}
    assert ("devices.allow", "c 7:1 r") in v1([{"allow": True, **one}, wide])
    everything = {"allow": False, "type": "a", "major": 7}
    assert not [x for x in v1([{"allow": True, **one}, everything]) if "7:1" in x[1]]


def test_v1_repeats_what_a_wider_rule_grants():
    """One line must hold a whole O_RDWR, as the kernel looks at each line alone."""
    wide = {"allow": True, "type": "c", "major": 7, "access": "r"}
    narrow = {"allow": True, "type": "c", "major": 7, "minor": 1, "access": "w"}
    assert ("devices.allow", "c 7:1 rw") in v1([wide, narrow])


def test_v1_cannot_punch_a_hole():
    """What v1 cannot say is refused, never widened."""
    given = [
        {"allow": True, "type": "c", "major": 7, "access": "rw"},
        {"allow": False, "type": "c", "major": 7, "minor": 1, "access": "w"},
    ]
    with pytest.raises(SpecError, match="cannot take back part of an earlier c 7:\\* rw") as caught:
        v1(given)
    assert caught.value.pointer == "/linux/resources/devices/1"


@pytest.mark.parametrize(
    "rule, where",
    [
        ({"allow": True, "access": "xyz"}, "access"),
        ({"allow": True, "access": ""}, "access"),
        ({"allow": True, "access": 7}, "access"),
        ({"allow": True, "type": "p"}, "type"),
        ({"allow": True, "type": None}, "type"),
        ({"allow": True, "type": "c", "major": -2}, "major"),
        ({"allow": True, "type": "c", "minor": 2**32}, "minor"),
        ({"allow": True, "type": "c", "minor": True}, "minor"),
        ({"type": "c"}, "allow"),
        ({"allow": "yes"}, "allow"),
    ],
)
def test_bad_rules(rule, where):
    """security.md 8 (devices)"""
    with pytest.raises(SpecError) as caught:
        devices.rules({"devices": [DENY_ALL, rule]}, "/linux/resources")
    assert caught.value.pointer == f"/linux/resources/devices/1/{where}"
