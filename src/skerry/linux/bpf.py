"""eBPF: an assembler for the few instructions we use, and the attributes of bpf(2) as bytes.

Runs in: create on cgroup v2 (hot); pure.   Imports: struct.
Source:  linux/bpf.h, linux/bpf_common.h; kernel
         Documentation/bpf/standardization/instruction-set.rst.
Never:   calls the kernel; loading and attaching are operations of a plan.

An attribute block is larger than any kernel's `union bpf_attr` and zero beyond what is said,
because a kernel may write back past what it was given (GHSA of runc 1.5.2 and crun 1.29); what
bpf(2) is told as size is `*_SIZE_BYTES`.
"""

import struct

BPF_PROG_LOAD, BPF_PROG_ATTACH = 5, 8
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2

# struct bpf_cgroup_dev_ctx: access_type (access << 16 | type), major, minor; u32 each
DEVICE_BLOCK, DEVICE_CHAR = 1, 2
ACCESS_MKNOD, ACCESS_READ, ACCESS_WRITE = 1, 2, 4

ATTR_BYTES = 256
# up to expected_attach_type; up to replace_bpf_fd: what Linux 5.14 knows
LOAD_SIZE_BYTES = 72
ATTACH_SIZE_BYTES = 20
# offsets a plan fills in: pointers (u64) of the first, fds (u32) of the second
LOAD_INSTRUCTIONS_AT, LOAD_LICENSE_AT = 8, 16
ATTACH_TARGET_AT, ATTACH_PROGRAM_AT = 0, 4

INSTRUCTION_BYTES = 8
LICENSE = b"Apache-2.0\0"


def _instruction(code: int, dst: int, src: int, offset: int, immediate: int, /) -> bytes:
    return struct.pack("=BBhI", code, src << 4 | dst, offset, immediate & 0xFFFFFFFF)


def load_word(dst: int, src: int, offset: int, /) -> bytes:
    """dst = *(u32 *)(src + offset)"""
    return _instruction(0x61, dst, src, offset, 0)


def move(dst: int, immediate: int, /) -> bytes:
    return _instruction(0xB4, dst, 0, 0, immediate)


def mask(dst: int, immediate: int, /) -> bytes:
    """dst &= immediate, 32 bit"""
    return _instruction(0x54, dst, 0, 0, immediate)


def shift_right(dst: int, bits: int, /) -> bytes:
    return _instruction(0x74, dst, 0, 0, bits)


def jump(skip: int, /) -> bytes:
    return _instruction(0x05, 0, 0, skip, 0)


def jump_unless_equal(dst: int, immediate: int, skip: int, /) -> bytes:
    """Skip so many instructions unless dst (32 bit) equals the number."""
    return _instruction(0x56, dst, 0, skip, immediate)


def jump_if_any_bit(dst: int, immediate: int, skip: int, /) -> bytes:
    return _instruction(0x46, dst, 0, skip, immediate)


def leave(result: int, /) -> bytes:
    """Return the number: two instructions."""
    return move(0, result) + _instruction(0x95, 0, 0, 0, 0)


def load_attribute(program_type: int, instructions: int, /, *, attach_type: int = 0) -> bytes:
    """The attribute of BPF_PROG_LOAD; the pointers at LOAD_INSTRUCTIONS_AT and LOAD_LICENSE_AT are
    left 0.

    Shape   `instructions` is their number, not bytes.
    """
    packed = struct.pack(
        "=IIQQIIQII16sII", program_type, instructions, 0, 0, 0, 0, 0, 0, 0, b"", 0, attach_type
    )
    return packed.ljust(ATTR_BYTES, b"\0")


def attach_attribute(attach_type: int, /, *, flags: int = BPF_F_ALLOW_MULTI) -> bytes:
    """The attribute of BPF_PROG_ATTACH; the fds at ATTACH_TARGET_AT and ATTACH_PROGRAM_AT are left
    0."""
    return struct.pack("=IIIII", 0, 0, attach_type, flags, 0).ljust(ATTR_BYTES, b"\0")
