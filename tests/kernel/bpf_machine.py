"""A classic BPF machine for seccomp filters: what would the kernel do with this call?

Source: linux/bpf_common.h, linux/seccomp.h; only the instructions libseccomp and skerry emit.
"""

import struct

X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
X32_BIT = 1 << 30
ERRNO, ALLOW, LOG, TRACE, NOTIFY = 0x50000, 0x7FFF0000, 0x7FFC0000, 0x7FF00000, 0x7FC00000
TRAP, KILL_THREAD, KILL_PROCESS = 0x30000, 0, 0x80000000


def verdict(program: bytes, number: int, *args: int, arch: int = X86_64) -> int:
    """Run the filter on one call; answer its return value."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *(*args, *[0] * (6 - len(args))))
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator, at = 0, 0
    while True:
        operation, if_true, if_false, k = code[at]
        at += 1
        match operation:
            case 0x20:  # ld [k]
                (accumulator,) = struct.unpack_from("=I", data, k)
            case 0x54:  # and k
                accumulator &= k
            case 0x05:  # ja k
                at += k
            case 0x15:
                at += if_true if accumulator == k else if_false
            case 0x25:
                at += if_true if accumulator > k else if_false
            case 0x35:
                at += if_true if accumulator >= k else if_false
            case 0x45:
                at += if_true if accumulator & k else if_false
            case 0x06:
                return k
            case _:
                raise ValueError(f"instruction {operation:#x}")
