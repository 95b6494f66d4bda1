"""Compiled filters: on a BPF machine, in the real kernel, and against the filter that runc loads."""

import ctypes
import fcntl
import json
import os
import platform
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bpf_machine import (
    ALLOW,
    ERRNO,
    I386,
    KILL_PROCESS,
    KILL_THREAD,
    LOG,
    NOTIFY,
    TRACE,
    TRAP,
    X32_BIT,
    verdict,
)

from skerry.errors import SpecError
from skerry.native import seccomp
from skerry.spec.defaults import default_spec
from skerry.spec.validate import check_spec

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the numbers of system calls are those of x86_64"
)

READ, WRITE, MKDIR, PERSONALITY, CLONE, OPENAT2 = 0, 1, 83, 135, 56, 437
EPERM, EEXIST, ENOSYS = 1, 17, 38
BUSYBOX = shutil.which("busybox")


def compiled(tmp_path: Path, **profile: Any) -> seccomp.Program:
    spec = default_spec()
    spec["linux"]["seccomp"] = profile
    check_spec(spec)
    return seccomp.program(profile, str(tmp_path / "cache"))


def rule(action: str, *names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **more}


def condition(index: int, op: str, value: int, second: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": second}


@pytest.mark.parametrize(
    ("action", "number", "expected"),
    [
        ("ALLOW", None, ALLOW),
        ("LOG", None, LOG),
        ("ERRNO", None, ERRNO | EPERM),
        ("ERRNO", 0, ERRNO),
        ("ERRNO", 4094, ERRNO | 4094),
        ("TRACE", None, TRACE | EPERM),
        ("TRACE", 65535, TRACE | 65535),
        ("TRAP", None, TRAP),
        ("KILL", None, KILL_THREAD),
        ("KILL_THREAD", None, KILL_THREAD),
        ("KILL_PROCESS", None, KILL_PROCESS),
    ],
)
def test_actions(tmp_path: Path, action: str, number: int | None, expected: int) -> None:
    """As a rule and as the default."""
    more = {} if number is None else {"errnoRet": number}
    other = "SCMP_ACT_TRAP" if action != "TRAP" else "SCMP_ACT_ALLOW"
    program = compiled(
        tmp_path, defaultAction=other, syscalls=[rule(action, "mkdir", **more), rule("LOG", "bpf")]
    )
    assert verdict(program.filter, MKDIR) == expected
    more = {} if number is None else {"defaultErrnoRet": number}
    program = compiled(
        tmp_path,
        defaultAction=f"SCMP_ACT_{action}",
        syscalls=[rule(other.removeprefix("SCMP_ACT_"), "mkdir"), rule("NOTIFY", "openat2")],
        listenerPath="/x",
        **more,
    )
    assert verdict(program.filter, READ) == expected
    assert verdict(program.filter, OPENAT2) == NOTIFY
    assert program.listener


@pytest.mark.parametrize(
    ("op", "value", "second", "hits", "misses"),
    [
        ("EQ", 5, 0, [5], [4, 6, 5 << 32]),
        ("NE", 5, 0, [4, 6, 5 << 32], [5]),
        ("LT", 5, 0, [0, 4], [5, 1 << 40]),
        ("LE", 5, 0, [5, 0], [6, 1 << 40]),
        ("GT", 5, 0, [6, 1 << 40], [5, 0]),
        ("GE", 1 << 40, 0, [1 << 40, 1 << 41], [5, (1 << 40) - 1]),
        ("MASKED_EQ", 0xF0, 0x50, [0x50, 0x5F, 0x150], [0x60, 0]),
    ],
)
def test_operators(
    tmp_path: Path, op: str, value: int, second: int, hits: list[int], misses: list[int]
) -> None:
    """MASKED_EQ: `value` is the mask, `valueTwo` what is left under it (config-linux.md)."""
    program = compiled(
        tmp_path,
        defaultAction="SCMP_ACT_ALLOW",
        syscalls=[rule("ERRNO", "mkdir", args=[condition(2, op, value, second)])],
    )
    for argument in hits:
        assert verdict(program.filter, MKDIR, 0, 0, argument) == ERRNO | EPERM
    for argument in misses:
        assert verdict(program.filter, MKDIR, 0, 0, argument) == ALLOW


def test_conditions_on_different_arguments_must_all_hold(tmp_path: Path) -> None:
    args = [condition(0, "EQ", 1), condition(1, "EQ", 2)]
    program = compiled(
        tmp_path, defaultAction="SCMP_ACT_ALLOW", syscalls=[rule("ERRNO", "mkdir", args=args)]
    )
    assert verdict(program.filter, MKDIR, 1, 2) == ERRNO | EPERM
    assert verdict(program.filter, MKDIR, 1, 3) == verdict(program.filter, MKDIR, 0, 2) == ALLOW


def test_conditions_on_one_argument_are_alternatives(tmp_path: Path) -> None:
    """As in runc."""
    args = [condition(0, "EQ", 1), condition(0, "EQ", 2), condition(1, "EQ", 9)]
    program = compiled(
        tmp_path, defaultAction="SCMP_ACT_ALLOW", syscalls=[rule("ERRNO", "mkdir", args=args)]
    )
    for call in ((1,), (2,), (5, 9)):
        assert verdict(program.filter, MKDIR, *call) == ERRNO | EPERM
    assert verdict(program.filter, MKDIR, 3) == ALLOW


def test_a_call_newer_than_the_profile_is_enosys(tmp_path: Path) -> None:
    profile: dict[str, Any] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [rule("ALLOW", "read", "mkdir")],
    }
    filter = compiled(tmp_path, **profile).filter
    assert verdict(filter, READ) == verdict(filter, MKDIR) == ALLOW
    assert verdict(filter, WRITE) == ERRNO | EPERM
    assert verdict(filter, MKDIR + 1) == verdict(filter, 1000) == ERRNO | ENOSYS
    # i386: mkdir is 39; x32 counts as x86_64 does, with bit 30
    assert verdict(filter, 39, arch=I386) == ALLOW
    assert verdict(filter, 38, arch=I386) == ERRNO | EPERM
    assert verdict(filter, 40, arch=I386) == ERRNO | ENOSYS
    assert verdict(filter, X32_BIT | MKDIR) == ALLOW
    assert verdict(filter, X32_BIT | WRITE) == ERRNO | EPERM
    assert verdict(filter, X32_BIT | 1000) == ERRNO | ENOSYS
    assert verdict(filter, 1000, arch=0x1234) == KILL_THREAD  # libseccomp's answer


@pytest.mark.parametrize(
    ("default", "number", "expected"),
    [
        ("ERRNO", ENOSYS, ERRNO | ENOSYS),
        ("ERRNO", 5, ERRNO | ENOSYS),
        ("KILL", None, ERRNO | ENOSYS),
        ("KILL_PROCESS", None, ERRNO | ENOSYS),
        ("TRAP", None, ERRNO | ENOSYS),
        ("ALLOW", None, ALLOW),
        ("LOG", None, LOG),
        ("TRACE", None, TRACE | EPERM),
    ],
)
def test_newer_calls_by_default_action(
    tmp_path: Path, default: str, number: int | None, expected: int
) -> None:
    """A permissive default lets the kernel answer."""
    more = {} if number is None else {"defaultErrnoRet": number}
    names = ["mkdir"] if default != "ALLOW" else []
    program = compiled(
        tmp_path,
        defaultAction=f"SCMP_ACT_{default}",
        syscalls=[rule("ALLOW", *names)] if names else [],
        **more,
    )
    assert verdict(program.filter, 1000) == expected


def test_a_rule_that_says_what_the_default_says_counts_as_known(tmp_path: Path) -> None:
    program = compiled(
        tmp_path,
        defaultAction="SCMP_ACT_ERRNO",
        syscalls=[rule("ALLOW", "read"), rule("ERRNO", "openat2")],
    )
    assert verdict(program.filter, OPENAT2) == verdict(program.filter, 300) == ERRNO | EPERM
    assert verdict(program.filter, OPENAT2 + 1) == ERRNO | ENOSYS


def test_unknown_names_are_left_out_and_told(tmp_path: Path) -> None:
    program = compiled(
        tmp_path,
        defaultAction="SCMP_ACT_ALLOW",
        syscalls=[rule("ERRNO", "no_such_call", "mkdir", "neither_this")],
    )
    assert program.ignored == ["no_such_call", "neither_this"]
    assert verdict(program.filter, MKDIR) == ERRNO | EPERM


@pytest.mark.parametrize(
    ("names", "notify", "expected"),
    [
        (None, False, 4),  # SPEC_ALLOW, as runc
        ([], False, 0),
        (["LOG", "TSYNC"], False, 3),
        (["TSYNC", "WAIT_KILLABLE_RECV"], True, 1 | 8 | 16 | 32),
        (None, True, 4 | 8),
    ],
)
def test_flags(tmp_path: Path, names: list[str] | None, notify: bool, expected: int) -> None:  # noqa: FBT001
    profile: dict[str, Any] = {"defaultAction": "SCMP_ACT_ALLOW"}
    if names is not None:
        profile["flags"] = [f"SECCOMP_FILTER_FLAG_{name}" for name in names]
    if notify:
        profile |= {"syscalls": [rule("NOTIFY", "mkdir")], "listenerPath": "/x"}
    program = compiled(tmp_path, **profile)
    assert (program.flags, program.listener) == (expected, notify)


def test_a_filter_too_long_for_the_kernel_is_refused(tmp_path: Path) -> None:
    rules = [
        rule("ERRNO", "mkdir", args=[condition(0, "EQ", n << 32 | n)]) for n in range(1, 2000)
    ]
    with pytest.raises(SpecError, match="the kernel takes 4096") as caught:
        compiled(tmp_path, defaultAction="SCMP_ACT_ALLOW", syscalls=rules)
    assert caught.value.pointer == "/linux/seccomp"


# --- in the kernel


class Libc:
    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def call(self, number: int, *args: Any) -> int:
        """A raw system call; a failure is the negative errno."""
        result = self._libc.syscall(ctypes.c_long(number), *args)
        return -ctypes.get_errno() if result == -1 else result

    def install(self, program: seccomp.Program) -> int:
        prctl, set_no_new_privs = 157, 38
        self.call(prctl, set_no_new_privs, 1, 0, 0, 0)
        code = ctypes.create_string_buffer(program.filter, len(program.filter))
        header = struct.pack("=HxxxxxxQ", len(program.filter) // 8, ctypes.addressof(code))
        return self.call(317, 1, program.flags, header)


def in_child(work: Callable[[Libc], object]) -> tuple[object, int]:
    """Run in a forked child; answer what it returned and its wait status."""
    libc = Libc()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, json.dumps(work(libc)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    data = os.read(reader, 65536)
    os.close(reader)
    _, status = os.waitpid(pid, 0)
    return (json.loads(data) if data else None), status


def test_the_kernel_obeys(tmp_path: Path) -> None:
    program = compiled(
        tmp_path,
        defaultAction="SCMP_ACT_ALLOW",
        syscalls=[
            rule("ERRNO", "mkdir", errnoRet=EEXIST),
            rule("ERRNO", "personality", args=[condition(0, "EQ", 0xFFFFFFFF)]),
        ],
    )

    def work(libc: Libc) -> object:
        return [
            libc.install(program),
            libc.call(MKDIR, b"/nonexistent/x", 0o700),
            libc.call(PERSONALITY, ctypes.c_ulong(0xFFFFFFFF)),
        ]

    answers, status = in_child(work)
    assert (answers, status) == ([0, -EEXIST, -EPERM], 0)
    without = in_child(lambda libc: libc.call(PERSONALITY, ctypes.c_ulong(0xFFFFFFFF)))[0]
    assert isinstance(without, int) and without >= 0


def test_the_kernel_kills(tmp_path: Path) -> None:
    program = compiled(
        tmp_path, defaultAction="SCMP_ACT_ALLOW", syscalls=[rule("KILL_PROCESS", "mkdir")]
    )

    def work(libc: Libc) -> object:
        libc.install(program)
        return libc.call(MKDIR, b"/nonexistent/x", 0o700)

    answers, status = in_child(work)
    assert answers is None
    assert os.WTERMSIG(status) == signal.SIGSYS


def test_the_kernel_asks_the_listener(tmp_path: Path) -> None:
    program = compiled(
        tmp_path,
        defaultAction="SCMP_ACT_ALLOW",
        syscalls=[rule("NOTIFY", "mkdir")],
        listenerPath="/x",
        flags=["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
    )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    libc = Libc()
    pid = os.fork()
    if pid == 0:
        try:
            listener = libc.install(program)
            socket.send_fds(theirs, [b"x"], [listener])
            theirs.send(str(libc.call(MKDIR, b"/nonexistent/x", 0o700)).encode())
        finally:
            os._exit(0)
    ours.settimeout(10)
    listener = socket.recv_fds(ours, 1, 1)[1][0]
    request = bytearray(80)  # struct seccomp_notif; 'id pid flags data'
    fcntl.ioctl(listener, 0xC0502100, request)
    identity, caller, _, number = struct.unpack_from("=QIIi", request)
    assert (caller, number) == (pid, MKDIR)
    fcntl.ioctl(listener, 0xC0182101, bytearray(struct.pack("=QqiI", identity, 0, -EEXIST, 0)))
    assert ours.recv(10) == str(-EEXIST).encode()
    os.close(listener)
    ours.close()
    theirs.close()
    assert os.waitpid(pid, 0)[1] == 0


# --- against runc

# What busybox needs to sleep, and rules that a filter can get wrong.
SLEEPER = [
    "arch_prctl", "brk", "clock_nanosleep", "close", "dup2", "execve", "exit_group", "fcntl",
    "fstat", "futex", "getcwd", "getdents64", "getgid", "getpid", "getppid", "gettid", "getuid",
    "ioctl", "mmap", "mprotect", "munmap", "nanosleep", "newfstatat", "open", "openat", "prctl",
    "prlimit64", "read", "readlink", "readlinkat", "rseq", "rt_sigaction", "rt_sigprocmask",
    "rt_sigreturn", "sched_getaffinity", "sched_yield", "set_robust_list", "set_tid_address",
    "setgid", "setgroups", "setuid", "sigaltstack", "stat", "tgkill", "uname", "write", "capset",
    "capget", "chdir", "fchdir", "epoll_ctl", "epoll_pwait", "epoll_create1", "pipe2", "lseek",
    "fstatfs", "statfs", "madvise", "nosuchcall", "clone", "getrandom", "poll", "statx",
    "close_range", "faccessat2", "faccessat", "access", "umask", "sendto", "sendmsg", "recvmsg",
    "epoll_wait", "getpgid", "eventfd2", "socket", "connect", "fchown", "setresuid", "setresgid",
]  # fmt: skip
PROFILES: dict[str, dict[str, Any]] = {
    "deny": {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            rule("ALLOW", *SLEEPER),
            rule("ALLOW", "personality", args=[condition(0, "EQ", 8)]),
            rule("ALLOW", "personality", args=[condition(0, "EQ", 0x20000)]),
            rule("ALLOW", "clone3", args=[condition(0, "MASKED_EQ", 0x7E020000, 0)]),
            rule("ERRNO", "bpf", "openat2", errnoRet=ENOSYS),
            rule("KILL_PROCESS", "reboot"),
            rule("TRACE", "mount", args=[condition(0, "GT", 9), condition(3, "LE", 7)]),
            rule("LOG", "kcmp", args=[condition(0, "NE", 1), condition(0, "LT", 9)]),
        ],
    },
    "allow": {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [rule("ERRNO", "mkdir", "mount", errnoRet=5), rule("TRAP", "reboot")],
    },
    "enosys": {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": ENOSYS,
        "syscalls": [rule("ALLOW", *SLEEPER), rule("ERRNO", "mkdir", errnoRet=1)],
    },
}


def test_architecture_that_the_library_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older library than the profile: the error says which word of it."""
    monkeypatch.setattr(seccomp.table, "supported_architectures", lambda: ["SCMP_ARCH_X86"])
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_LOONGARCH64"]}
    with pytest.raises(SpecError, match="does not know SCMP_ARCH_LOONGARCH64") as caught:
        seccomp.program(profile, "")
    assert caught.value.pointer == "/linux/seccomp/architectures/1"


@pytest.fixture
def runc_filter(tmp_path: Path) -> Iterator[Callable[[dict[str, Any]], bytes]]:
    """Run a sleeping container under runc and fetch the filter from its process."""
    if not shutil.which("runc") or not BUSYBOX:
        pytest.skip("runc and a static busybox are needed")
    if os.geteuid():
        pytest.skip("root is needed to read a filter by ptrace")
    root, bundle = tmp_path / "root", tmp_path / "bundle"
    (bundle / "rootfs").mkdir(parents=True)
    shutil.copy(BUSYBOX, bundle / "rootfs" / "busybox")
    runc, name = ["runc", "--root", str(root)], f"seccomp-{os.getpid()}"

    def fetch(profile: dict[str, Any]) -> bytes:
        spec = default_spec()
        spec["ociVersion"] = "1.0.2"
        spec["process"] |= {"terminal": False, "args": ["/busybox", "sleep", "100"]}
        spec["mounts"] = spec["mounts"][:1]
        spec["linux"] |= {"seccomp": profile, "namespaces": [{"type": "pid"}, {"type": "mount"}]}
        del spec["hostname"]
        (bundle / "config.json").write_text(json.dumps(spec))
        command = [*runc, "run", "-d", "--pid-file", str(tmp_path / "pid"), "-b", str(bundle), name]
        # A file: a pipe would be held open by the container.
        with (tmp_path / "output").open("w+") as output:
            streams: Any = {"stdout": output, "stderr": output}
            done = subprocess.run(command, stdin=subprocess.DEVNULL, **streams)
        assert done.returncode == 0, (tmp_path / "output").read_text()
        return filter_of(int((tmp_path / "pid").read_text()))

    yield fetch
    subprocess.run([*runc, "delete", "-f", name], capture_output=True)


def filter_of(pid: int) -> bytes:
    """The newest filter of a process (PTRACE_SECCOMP_GET_FILTER)."""
    attach, detach, get_filter, wait_all = 16, 17, 0x420C, 0x40000000
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.restype = ctypes.c_long
    ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    assert ptrace(attach, pid, None, None) == 0, os.strerror(ctypes.get_errno())
    os.waitpid(pid, wait_all)
    try:
        length = ptrace(get_filter, pid, 0, None)
        if length < 0:
            pytest.skip(f"the kernel does not show filters: {os.strerror(ctypes.get_errno())}")
        buffer = ctypes.create_string_buffer(length * 8)
        assert ptrace(get_filter, pid, 0, buffer) == length
        return buffer.raw
    finally:
        ptrace(detach, pid, None, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PROFILES))
def test_same_verdicts_as_runc_s_filter(
    tmp_path: Path, runc_filter: Callable[[dict[str, Any]], bytes], name: str
) -> None:
    profile = PROFILES[name]
    theirs, ours = runc_filter(profile), compiled(tmp_path, **profile).filter
    numbers = [*range(520), 1000, 0xFFFFFFFF]
    interesting = [0, 1, 5, 7, 8, 9, 10, 0x20000, 0x7E020000, 0x10000000, 1 << 33]
    calls = [(n,) for n in numbers] + [(n, value) for n in numbers for value in interesting]
    calls += [(n, a, 0, 0, b) for n in (165, 312) for a in interesting for b in interesting]
    for arch, bit in ((0xC000003E, 0), (0xC000003E, X32_BIT), (I386, 0), (0xC00000B7, 0)):
        for number, *args in calls:
            call = (number | bit, *args)
            expected = verdict(theirs, *call, arch=arch)
            assert verdict(ours, *call, arch=arch) == expected, (hex(arch), call)
