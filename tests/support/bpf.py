"""Load and attach device programs without any help of skerry's."""

import ctypes
import os
import struct


class BpfLibrary:
    """bpf(2) for the tests, with the attributes of linux/bpf.h."""

    CALL = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
    PROG_LOAD, PROG_ATTACH, PROG_TYPE_CGROUP_DEVICE, CGROUP_DEVICE, ALLOW_MULTI = 5, 8, 15, 6, 2

    def __init__(self):
        self.libc = ctypes.CDLL(None, use_errno=True)

    def call(self, command, attribute):
        size = len(attribute)
        result = self.libc.syscall(
            self.CALL, command, ctypes.create_string_buffer(attribute, size), size
        )
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    def load(self, program):
        code = ctypes.create_string_buffer(program, len(program))
        licence = ctypes.create_string_buffer(b"Apache-2.0")
        pointers = ctypes.addressof(code), ctypes.addressof(licence)
        count = len(program) // 8
        return self.call(
            self.PROG_LOAD, struct.pack("=IIQQ48x", self.PROG_TYPE_CGROUP_DEVICE, count, *pointers)
        )

    def attach(self, target, program):
        self.call(
            self.PROG_ATTACH,
            struct.pack("=IIIII", target, program, self.CGROUP_DEVICE, self.ALLOW_MULTI, 0),
        )
