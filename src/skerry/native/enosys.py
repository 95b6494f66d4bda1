"""The front part of a seccomp filter: system calls newer than the profile fail with ENOSYS.

Runs in: create, exec, when a filter is compiled; pure.   Imports: struct.
Source:  linux/bpf_common.h, linux/audit.h, linux/seccomp.h (seccomp_data); runc does the same.
Never:   answers for a system call that a rule names, or for an architecture not in the filter.

A C library tries a new system call and falls back to the old one on ENOSYS, on nothing else. A
profile that denies with EPERM, or kills, would break each such program on every new kernel. So a
number above the highest one that the profile names for that architecture is answered with ENOSYS
before the filter itself is asked.
"""

import struct

_LOAD, _JUMP, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_SET, _RETURN = 0x20, 0x05, 0x15, 0x25, 0x45, 0x06
_NUMBER_OFFSET, _ARCH_OFFSET = 0, 4
_RETURN_ENOSYS = 0x00050000 | 38
_AUDIT_X86_64, _TOKEN_X32 = 0xC000003E, 0x4000003E
_X32_BIT = 1 << 30
_AUDIT_S390 = (0x00000016, 0x80000016)


def front(last: "dict[int, int]") -> bytes:
    """The instructions to put before a filter; it is entered by falling off their end.

    Shape   `last`: libseccomp's architecture token -> the highest system call number named.
    """
    by_arch: dict[int, dict[int, int]] = {}
    for token, number in last.items():
        # x32 has a token of its own; for the kernel it is x86_64 with bit 30 set in the number.
        arch = _AUDIT_X86_64 if token == _TOKEN_X32 else token
        by_arch.setdefault(arch, {})[token] = number
    sections = [(arch, _section(arch, numbers)) for arch, numbers in by_arch.items()]
    code: list[tuple[int, int, int, int]] = []
    # From the last section to the first, since every jump leads forward.
    for arch, section in reversed(sections):
        body = [*section, (_JUMP, 0, 0, len(code))]
        code = [(_JUMP_EQUAL, 0, len(body), arch), *body, *code]
    code.insert(0, (_LOAD, 0, 0, _ARCH_OFFSET))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _section(arch: int, numbers: "dict[int, int]") -> "list[tuple[int, int, int, int]]":
    """For one architecture: return ENOSYS, or fall off the end."""
    code = [(_LOAD, 0, 0, _NUMBER_OFFSET)]
    if arch in _AUDIT_S390:
        # Numbers the kernel does not know arrive as 0 there, the dead setup(2).
        code += [(_JUMP_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _RETURN_ENOSYS)]
    if arch != _AUDIT_X86_64:
        return code + _above(numbers[arch])
    native = _above(numbers[arch]) if arch in numbers else []
    x32 = _above(numbers[_TOKEN_X32]) if _TOKEN_X32 in numbers else []
    code += [(_JUMP_SET, len(native) + 1, 0, _X32_BIT), *native, (_JUMP, 0, 0, len(x32)), *x32]
    return code


def _above(number: int) -> "list[tuple[int, int, int, int]]":
    return [(_JUMP_GREATER, 0, 1, number), (_RETURN, 0, 0, _RETURN_ENOSYS)]
