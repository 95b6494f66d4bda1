"""A small assembler of plans for the tests of skerry-init, and the means to run them.

Runs in: tests.   Imports: plan.ops, linux.abi.
Source:  the formats of plan/ops.py; nothing of plan/build.py, so that a mistake there is not repeated here.
"""

import fcntl
import os
import platform
import select
import socket
import struct
import subprocess
import time
from pathlib import Path

from skerry.linux import abi
from skerry.plan import ops

ROOT = Path(__file__).resolve().parent.parent.parent
SEALS = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL SHRINK GROW WRITE, linux/fcntl.h
F_ADD_SEALS = 1033
DEADLINE_S = 20


class Target:
    """The machine that plans are for; a fixture sets it where a test runs under emulation too."""

    machine = platform.machine()


class Data(int):
    """An offset into the data of a plan."""


class Reg(int):
    """The number of a register."""


class Label:
    """A place to jump to; `plan.here(label)` says where it is."""

    index = 0


class Plan:
    """Operations, relocations and data under construction."""

    def __init__(self) -> None:
        self.column = abi.MACHINES[Target.machine]
        self.ops: list[dict] = []
        self.data = bytearray()
        self.relocations: list[int] = []
        self.registers = 0
        self.process = 0

    def blob(self, value: bytes | str, align: int = 1) -> Data:
        """Put bytes, or a string and its zero byte, into the data."""
        raw = value.encode() + b"\0" if isinstance(value, str) else value
        self.data += b"\0" * (-len(self.data) % align)
        self.data += raw
        return Data(len(self.data) - len(raw))

    def room(self, size: int) -> Data:
        return self.blob(b"\0" * size, 8)

    def pointers(self, values: list[Data | None]) -> Data:
        """Lay out an array of pointers; None is a null pointer."""
        at = self.room(8 * len(values))
        for number, value in enumerate(values):
            if value is not None:
                struct.pack_into("<Q", self.data, at + 8 * number, value)
                self.relocations.append(at + 8 * number)
        return at

    def strings(self, values: list[str]) -> Data:
        """Lay out a null-terminated array of strings, as execve takes it."""
        return self.pointers([*[self.blob(value) for value in values], None])

    def register(self) -> Reg:
        self.registers += 1
        return Reg(self.registers - 1)

    def op(self, name, *args, to=None, fail="FATAL", errnos=(), target=None, number=0) -> int:
        """Append an operation; the answer is its index."""
        self.ops.append(
            {
                "code": ops.CODES[name] if isinstance(name, str) else name,
                "result": ops.NO_REGISTER if to is None else to,
                "number": number,
                "fail": ops.FAIL[fail],
                "errnos": tuple(errnos),
                "target": target,
                "process": self.process,
                "args": args,
            }
        )
        return len(self.ops) - 1

    def call(self, name, *args, **rest) -> int:
        return self.op("SYSCALL", *args, number=abi.SYSCALLS[name][self.column], **rest)

    def here(self, label: Label) -> None:
        label.index = len(self.ops)

    def write(self, fd, text: bytes) -> int:
        return self.op("WRITE", fd, self.blob(text), len(text))

    def mount(self, kind: str, target: str, options: str = "") -> None:
        """Mount in a mount namespace of the plan's own, so that it ends with the process."""
        nothing = self.blob("none")
        self.call("unshare", 0x20000)  # CLONE_NEWNS
        self.call("mount", nothing, self.blob("/"), 0, 1 << 18 | 0x4000, 0)  # MS_PRIVATE | MS_REC
        self.call("mount", nothing, self.blob(target), self.blob(kind), 0, self.blob(options))

    def exit(self, status: int) -> int:
        return self.call("exit_group", status)

    def fork(self, child: Label, flags: int = 0, exit_signal: int = 17) -> Reg:
        """Clone3; the child goes on at the label."""
        arguments = self.room(88)
        struct.pack_into("<Q", self.data, arguments, flags)
        struct.pack_into("<Q", self.data, arguments + 32, exit_signal)
        pid = self.register()
        self.call("clone3", arguments, 88, to=pid)
        self.op("BRANCH", pid, ops.EQ, 0, target=child)
        return pid

    def encode(self, conversation: int = -1) -> bytes:
        """Print the plan as bytes."""
        self.data += b"\0"
        rows = b"".join(map(self.encode_op, self.ops))
        places = struct.pack(f"<{len(self.relocations)}I", *self.relocations)
        head = struct.calcsize(ops.HEADER_FORMAT) + len(rows) + len(places)
        padding = -head % ops.DATA_ALIGN_BYTES
        header = struct.pack(
            ops.HEADER_FORMAT,
            ops.MAGIC,
            ops.VERSION,
            head + padding + len(self.data),
            len(self.ops),
            len(self.relocations),
            self.registers,
            head + padding,
            len(self.data),
            conversation,
            0,
        )
        return header + rows + places + b"\0" * padding + bytes(self.data)

    @staticmethod
    def encode_op(op: dict) -> bytes:
        kinds = [ops.DATA if isinstance(a, Data) else ops.REGISTER if isinstance(a, Reg) else 0
                 for a in op["args"]]
        unused = [0] * (ops.ARGUMENTS - len(kinds))
        target = op["target"]
        return struct.pack(
            ops.OP_FORMAT,
            op["code"],
            op["result"],
            op["number"],
            op["fail"],
            len(kinds),
            *op["errnos"],
            *[0] * (ops.ERRNOS - len(op["errnos"])),
            target.index if isinstance(target, Label) else target or 0,
            *kinds,
            *unused,
            op["process"],
            0,
            *[int(a) % (1 << 64) for a in op["args"]],
            *unused,
        )


def sealed(data: bytes, seals: int = SEALS) -> int:
    """Make a memfd of the bytes; the caller closes it."""
    fd = os.memfd_create("plan", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, F_ADD_SEALS, seals)
    return fd


def eventually(condition) -> bool:
    """Poll what cannot be waited for, up to the deadline."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            return False
        select.select([], [], [], 0.005)
    return True


def is_dead(pid: int) -> bool:
    """Whether a process is gone, or a zombie that its new parent has not reaped yet."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return text.rpartition(")")[2].split()[0] == "Z"


class Record:
    """One packet of the conversation."""

    def __init__(self, packet: bytes) -> None:
        size = struct.calcsize(ops.RECORD_FORMAT)
        self.kind, self.operation, self.errno, self.process, self.value = struct.unpack(
            ops.RECORD_FORMAT, packet[:size]
        )
        self.rest = packet[size:]

    def __repr__(self) -> str:
        return f"Record({vars(self)})"


def packet(kind: str, value: int = 0, rest: bytes = b"") -> bytes:
    """Build what the parent says to skerry-init."""
    return struct.pack(ops.RECORD_FORMAT, ops.RECORDS[kind], 0, 0, 0, value) + rest


class Run:
    """A skerry-init at work: its process and our end of the conversation."""

    def __init__(self, program: list[str], plan: "Plan | bytes", *, fds=(), seals=SEALS, **popen) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(DEADLINE_S)
        data = plan.encode(theirs.fileno()) if isinstance(plan, Plan) else plan
        fd = sealed(data, seals)
        popen.setdefault("stdin", subprocess.DEVNULL)
        try:
            self.process = subprocess.Popen(
                [*program, str(fd)], pass_fds=[fd, theirs.fileno(), *fds], **popen
            )
        finally:
            os.close(fd)
            theirs.close()

    def record(self) -> Record | None:
        """Read one packet; None at the end."""
        data = self.socket.recv(1 << 17)
        return Record(data) if data else None

    def record_with_fds(self) -> tuple[Record, list[int]]:
        data, fds, _, _ = socket.recv_fds(self.socket, 1 << 17, 8)
        return Record(data), fds

    def say(self, kind: str, value: int = 0, rest: bytes = b"") -> None:
        self.socket.send(packet(kind, value, rest))

    def wait(self) -> int:
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def close(self) -> None:
        self.socket.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
