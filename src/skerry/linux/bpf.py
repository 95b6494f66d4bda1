"""eBPF: an assembler for the few instructions that a device filter needs.

Runs in: create on cgroup v2 (hot); pure.   Imports: struct.
Source:  linux/bpf.h, linux/bpf_common.h; instruction-set.rst in the kernel's Documentation/bpf.
Never:   calls the kernel; loading and attaching are operations of a plan.
"""

import struct

# struct bpf_cgroup_dev_ctx: access_type (access << 16 | type), major, minor; u32 each
DEVICE_BLOCK, DEVICE_CHAR = 1, 2
ACCESS_MKNOD, ACCESS_READ, ACCESS_WRITE = 1, 2, 4

INSTRUCTION_BYTES = 8


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
