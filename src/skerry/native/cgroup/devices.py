"""Which devices a container may open: an eBPF program for v2, lines of devices.allow for v1.

Runs in: create (hot); pure.   Imports: linux.bpf errors.
Source:  config-linux.md "Allowed Device list"; BPF_PROG_TYPE_CGROUP_DEVICE in linux/bpf.h;
         security/device_cgroup.c; the default list is that of runc 1.1.
Never:   starts from "allow": without rules the default list is all (GHSA-g54h-m393-cpwq).

For each of read, write and mknod on its own the last rule that matches the device decides. A
request for several is granted when each of them is.
"""

from skerry.errors import SpecError
from skerry.linux import bpf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

ANY = -1
_KINDS = {"a": bpf.DEVICE_BLOCK | bpf.DEVICE_CHAR, "b": bpf.DEVICE_BLOCK, "c": bpf.DEVICE_CHAR}
_LETTERS = {bpf.DEVICE_BLOCK: "b", bpf.DEVICE_CHAR: "c"}
_ACCESS = {"r": bpf.ACCESS_READ, "w": bpf.ACCESS_WRITE, "m": bpf.ACCESS_MKNOD}
_EVERYTHING = bpf.ACCESS_READ | bpf.ACCESS_WRITE | bpf.ACCESS_MKNOD
_NUMBER_LIMIT = 0xFFFFFFFF

# Granted after the spec's rules, so that the devices every container has in /dev can be used.
DEFAULT_RULES = (
    ("c", ANY, ANY, "m"),
    ("b", ANY, ANY, "m"),
    ("c", 1, 3, "rwm"),  # null
    ("c", 1, 5, "rwm"),  # zero
    ("c", 1, 7, "rwm"),  # full
    ("c", 1, 8, "rwm"),  # random
    ("c", 1, 9, "rwm"),  # urandom
    ("c", 5, 0, "rwm"),  # tty
    ("c", 5, 2, "rwm"),  # ptmx
    ("c", 10, 200, "rwm"),  # net/tun
    ("c", 136, ANY, "rwm"),  # pts/*
)


class Rule:
    """One line of the list. `kinds` and `access` are bit sets; major and minor may be ANY."""

    __slots__ = ("access", "allow", "kinds", "major", "minor", "pointer")

    def __init__(
        self, kind: str, major: int, minor: int, access: str, *, allow: bool, pointer: str
    ) -> None:
        self.allow, self.pointer = allow, pointer
        self.kinds = _KINDS.get(kind, 0) if isinstance(kind, str) else 0
        if not self.kinds:
            raise SpecError(f"{pointer}/type", f"{kind!r} is not a, b or c")
        self.access = 0
        for letter in access if isinstance(access, str) else "?":
            if letter not in _ACCESS:
                raise SpecError(f"{pointer}/access", f"{access!r} is not made of r, w and m")
            self.access |= _ACCESS[letter]
        if not self.access:
            raise SpecError(f"{pointer}/access", "must not be empty")
        for name, number in (("major", major), ("minor", minor)):
            if type(number) is not int or not ANY <= number <= _NUMBER_LIMIT:
                raise SpecError(f"{pointer}/{name}", f"{number!r} is not in -1..{_NUMBER_LIMIT}")
        self.major, self.minor = major, minor

    def is_total(self) -> bool:
        """Say whether the rule speaks about every access to every device."""
        total = (_KINDS["a"], ANY, ANY, _EVERYTHING)
        return (self.kinds, self.major, self.minor, self.access) == total


def rules(resources: "dict[str, Any]", pointer: str, /) -> list[Rule]:
    """Read the spec's rules and append the default ones.

    Errors  SpecError for an unknown type, an unknown access letter, a number out of range.
    """
    given = resources.get("devices") or ()
    found = [_read(rule, f"{pointer}/devices/{index}") for index, rule in enumerate(given)]
    for kind, major, minor, access in DEFAULT_RULES:
        found.append(Rule(kind, major, minor, access, allow=True, pointer=f"{pointer}/devices"))
    return found


def _read(rule: "dict[str, Any]", pointer: str, /) -> Rule:
    kind, access = rule.get("type", "a"), rule.get("access", "rwm")
    major, minor = rule.get("major", ANY), rule.get("minor", ANY)
    if type(rule.get("allow")) is not bool:
        raise SpecError(f"{pointer}/allow", "must be true or false")
    return Rule(kind, major, minor, access, allow=rule["allow"], pointer=pointer)


def program(rules: "Sequence[Rule]", /) -> bytes:
    """Compile the rules for cgroup v2: 1 permits the request, 0 refuses it.

    Shape   8-byte instructions, native endian.

    r2 holds what is still asked for (access bits), r3 the kind. The last rule is asked first: an
    allowing rule takes its bits from r2 and permits when none is left, a denying rule refuses when
    it finds one. The numbers are loaded anew for each test: a register that is known to be 5 after
    one rule would make the verifier walk all others once more, and it gives up at some hundreds.
    """
    start = max((index for index, rule in enumerate(rules) if rule.is_total()), default=-1)
    code = [
        bpf.load_word(2, 1, 0),
        bpf.shift_right(2, 16),
        bpf.load_word(3, 1, 0),
        bpf.mask(3, 0xFFFF),
    ]
    for rule in reversed(rules[start + 1 :]):
        code.append(_compile(rule))
    code.append(bpf.leave(1 if start >= 0 and rules[start].allow else 0))
    return b"".join(code)


def _compile(rule: Rule, /) -> bytes:
    if rule.allow:
        body = bpf.mask(2, ~rule.access) + bpf.jump_unless_equal(2, 0, 2) + bpf.leave(1)
    else:
        body = bpf.jump_if_any_bit(2, rule.access, 1) + bpf.jump(2) + bpf.leave(0)
    # the tests are put before the body from the last to the first: each skips what it stands before
    for offset, wanted in ((8, rule.minor), (4, rule.major)):
        if wanted != ANY:
            skip = len(body) // bpf.INSTRUCTION_BYTES
            body = bpf.load_word(4, 1, offset) + bpf.jump_unless_equal(4, wanted, skip) + body
    if rule.kinds != _KINDS["a"]:
        body = bpf.jump_unless_equal(3, rule.kinds, len(body) // bpf.INSTRUCTION_BYTES) + body
    return body


def v1_lines(rules: "Sequence[Rule]", current: str, /) -> list[tuple[str, str, str]]:
    """List what to write on cgroup v1: (file, line, pointer of the rule).

    `current` is devices.list. Where it is already a list of exceptions only the difference is
    written, so that an update with the same rules never takes a device away for a moment. Else
    everything is denied first.
    Errors  SpecError where v1 cannot say it: part of an earlier, wider rule is taken back.
    """
    default, exceptions = _reduce(rules)
    wide = [
        (key, access & (bpf.ACCESS_READ | bpf.ACCESS_WRITE))
        for key, (access, _) in exceptions.items()
        if ANY in key
    ]
    wanted = {
        _name(key): (_widen(key, access, wide), rule.pointer)
        for key, (access, rule) in exceptions.items()
    }
    held: dict[str, int] = {}
    # an allow-all group shows only this line, never its exceptions
    if default or current.startswith("a "):
        lines = [("devices.allow" if default else "devices.deny", "a", "")]
    else:
        lines = []
        for line in current.split("\n"):
            name, _, letters = line.rpartition(" ")
            held[name] = sum(_ACCESS.get(letter, 0) for letter in letters)
    add, drop = ("devices.deny", "devices.allow") if default else ("devices.allow", "devices.deny")
    for name, (access, pointer) in wanted.items():
        if access & ~held.get(name, 0):
            lines.append((add, f"{name} {_letters(access)}", pointer))
    for name, access in held.items():
        extra = access & ~wanted.get(name, (0, ""))[0]
        if extra:
            lines.append((drop, f"{name} {_letters(extra)}", ""))
    return lines


def _reduce(
    rules: "Sequence[Rule]", /
) -> tuple[bool, dict[tuple[int, int, int], tuple[int, Rule]]]:
    """Fold the rules into what a v1 group holds: a default and exceptions to it.

    Shape   exceptions by (kind, major, minor).
    """
    default = False
    exceptions: dict[tuple[int, int, int], tuple[int, Rule]] = {}
    for rule in rules:
        if rule.is_total():
            default = rule.allow
            exceptions.clear()
            continue
        for kind in _LETTERS:
            if not rule.kinds & kind:
                continue
            key = (kind, rule.major, rule.minor)
            if rule.allow != default:
                exceptions[key] = (exceptions.get(key, (0, rule))[0] | rule.access, rule)
            else:
                _take_back(exceptions, key, rule)
    return default, {key: value for key, value in exceptions.items() if value[0]}


def _take_back(
    exceptions: dict[tuple[int, int, int], tuple[int, Rule]],
    key: tuple[int, int, int],
    rule: Rule,
    /,
) -> None:
    for other, (access, origin) in exceptions.items():
        if _covers(key, other):
            exceptions[other] = (access & ~rule.access, origin)
        elif access & rule.access and _overlap(key, other):
            raise SpecError(
                rule.pointer,
                f"cgroup v1 cannot take back part of an earlier {_name(other)} {_letters(access)}",
            )


def _covers(wide: tuple[int, int, int], narrow: tuple[int, int, int], /) -> bool:
    return (
        wide[0] == narrow[0] and wide[1] in (ANY, narrow[1]) and wide[2] in (ANY, narrow[2])
    )


def _overlap(one: tuple[int, int, int], two: tuple[int, int, int], /) -> bool:
    return one[0] == two[0] and all(
        a == b or ANY in (a, b) for a, b in zip(one[1:], two[1:], strict=True)
    )


def _widen(
    key: tuple[int, int, int], access: int, wide: "list[tuple[tuple[int, int, int], int]]", /
) -> int:
    """Add what wider exceptions say: the kernel wants one line that holds a whole request.

    Only reading and writing are ever requested together, by open(O_RDWR).
    """
    for other, bits in wide:
        if _covers(other, key):
            access |= bits
    return access


def _name(key: tuple[int, int, int], /) -> str:
    numbers = ["*" if number == ANY else str(number) for number in key[1:]]
    return f"{_LETTERS[key[0]]} {':'.join(numbers)}"


def _letters(access: int, /) -> str:
    return "".join(letter for letter, bit in _ACCESS.items() if access & bit)
