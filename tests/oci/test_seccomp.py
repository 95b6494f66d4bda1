"""linux.seccomp: every action by its effect, argument comparisons, architectures, the listener."""

import array
import ctypes
import errno
import fcntl
import json
import os
import platform
import socket
import struct

import pytest
from support import host
from support.box import Box
from support.spec import DOCKER_CAPS, drop_namespace, fresh_spec, set_caps, shell

NATIVE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[platform.machine()]
RECV, SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, _SEND


def rule(action: str, *names: str, **more: object) -> dict:
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **more}


def seccomp(spec: dict, *rules: dict, default: str = "ALLOW", **more: object) -> dict:
    spec["linux"]["seccomp"] = {
        "defaultAction": f"SCMP_ACT_{default}", "architectures": [NATIVE], "syscalls": list(rules), **more,
    }  # fmt: skip
    return spec


def call(box: Box, *rules: dict, words: tuple[str, ...] = ("umask", "0"), **more: object) -> str:
    """Make one system call below a filter; its result or errno."""
    return box.run(seccomp(fresh_spec("probe", "call", *words), *rules, **more)).ok().out.strip()


def test_without_a_filter(box: Box) -> None:
    """The positive control of all that follows."""
    assert box.run(fresh_spec("probe", "call", "umask", "0")).ok().out == "18\n"
    assert box.run(fresh_spec("cat", "/proc/self/status")).ok().fields()["Seccomp"] == "0"


def test_filter_is_loaded(box: Box) -> None:
    spec = seccomp(fresh_spec("cat", "/proc/self/status"), rule("ERRNO", "umask"))
    found = box.run(spec).ok().fields()
    assert found["Seccomp"] == "2"
    assert found["Seccomp_filters"] == "1"


def test_errno_is_eperm_by_default(box: Box) -> None:
    assert call(box, rule("ERRNO", "umask")) == "EPERM"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EACCES, 0])
def test_errno_of_the_rule(box: Box, number: int) -> None:
    wanted = errno.errorcode.get(number, "0")
    assert call(box, rule("ERRNO", "umask", errnoRet=number)) == wanted


def test_default_errno(box: Box) -> None:
    """defaultErrnoRet goes with defaultAction ERRNO; what the probe needs is allowed by name."""
    allowed = rule("ALLOW", *NEEDED)
    spec = seccomp(fresh_spec("probe", "call", "umask", "0"), allowed, default="ERRNO", defaultErrnoRet=errno.ENOTTY)
    assert box.run(spec).ok().out == "ENOTTY\n"


NEEDED = (
    "read", "write", "close", "execve", "execveat", "exit", "exit_group", "brk", "mmap", "munmap", "mprotect", "arch_prctl",
    "set_tid_address", "set_robust_list", "rseq", "prlimit64", "readlink", "readlinkat", "getrandom", "fstat",
    "newfstatat", "futex", "prctl", "uname", "rt_sigreturn", "fcntl", "close_range", "getdents64", "openat", "chdir",
    "getcwd", "setgroups", "setgid", "setuid", "setresuid", "setresgid", "capset", "capget", "epoll_pwait", "epoll_ctl",
    "epoll_create1", "rt_sigaction", "rt_sigprocmask", "sigaltstack", "gettid", "getpid", "tgkill", "nanosleep",
    "sched_yield", "mincore", "madvise", "clone", "clone3", "getuid", "getgid", "geteuid", "getegid", "getppid",
    "fstatfs", "statfs", "faccessat", "faccessat2", "access", "stat", "lseek", "poll", "ppoll", "recvmsg", "sendmsg",
    "recvfrom", "sendto", "dup", "dup2", "dup3", "ioctl", "kill", "openat2", "getsockopt", "write", "wait4", "waitid",
)  # fmt: skip


def test_allow_list(box: Box) -> None:
    """A default of ERRNO with a list, as engines write it: the container runs and the rest is denied."""
    spec = seccomp(fresh_spec("probe", "call", "getpriority", "0", "0"), rule("ALLOW", *NEEDED), default="ERRNO")
    assert box.run(spec).ok().out == "EPERM\n"


@pytest.mark.parametrize("action", ["KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP"])
def test_deadly_action(box: Box, action: str) -> None:
    """All but LOG and TRACE end the probe with SIGSYS: 128 + 31."""
    spec = seccomp(shell("probe call umask 0; echo code $?"), rule(action, "umask"))
    spec["process"]["args"][2] = "probe call umask 0; echo code $?"
    assert box.run(spec).ok().out.splitlines()[-1] == "code 159"


def test_trace_without_a_tracer(box: Box) -> None:
    """seccomp(2): ENOSYS."""
    assert call(box, rule("TRACE", "umask")) == "ENOSYS"


@pytest.mark.parametrize("action", ["LOG", "ALLOW"])
def test_harmless_action(box: Box, action: str) -> None:
    assert call(box, rule(action, "umask"), rule("ERRNO", "getpriority")) == "18"


@pytest.mark.parametrize(
    ("op", "value", "two", "hit", "miss"),
    [
        ("EQ", 5, 0, [5], [4, 6]),
        ("NE", 5, 0, [4, 6], [5]),
        ("LT", 5, 0, [4, 0], [5, 6]),
        ("LE", 5, 0, [4, 5], [6]),
        ("GT", 5, 0, [6], [5, 4]),
        ("GE", 5, 0, [5, 6], [4]),
        ("MASKED_EQ", 6, 4, [4, 5, 12], [6, 2]),
    ],
)
def test_comparison(box: Box, op: str, value: int, two: int, hit: list[int], miss: list[int]) -> None:
    """seccomp_rule_add(3): MASKED_EQ is (argument & value) == valueTwo."""
    argument = {"index": 0, "value": value, "valueTwo": two, "op": f"SCMP_CMP_{op}"}
    script = "; ".join(f"probe call umask {n}" for n in hit + miss)
    spec = seccomp(shell(script), rule("ERRNO", "umask", args=[argument]))
    found = box.run(spec).ok().lines
    assert found == ["EPERM"] * len(hit) + ["18"] * len(miss)


def test_comparison_is_64_bit(box: Box) -> None:
    """The upper half counts as well."""
    argument = {"index": 1, "value": 1 << 32, "op": "SCMP_CMP_EQ"}
    spec = seccomp(shell("probe call getpriority 0 0x100000000; probe call getpriority 0 0"),
                   rule("ERRNO", "getpriority", args=[argument]))  # fmt: skip
    assert box.run(spec).ok().lines == ["EPERM", "20"]


def test_arguments_of_one_rule_are_all_needed(box: Box) -> None:
    args = [{"index": n, "value": 0, "op": "SCMP_CMP_EQ"} for n in (0, 1)]
    spec = seccomp(shell("probe call getpriority 0 0; probe call getpriority 1 0"), rule("ERRNO", "getpriority", args=args))
    assert box.run(spec).ok().lines == ["EPERM", "20"]


def test_same_index_twice_is_an_or(box: Box) -> None:
    """config-linux.md: as docker's profile writes it (personality 0, 8, ...)."""
    args = [{"index": 0, "value": n, "op": "SCMP_CMP_EQ"} for n in (3, 5)]
    spec = seccomp(shell("probe call umask 3; probe call umask 5; probe call umask 4"), rule("ERRNO", "umask", args=args))
    assert box.run(spec).ok().lines == ["EPERM", "EPERM", "18"]


def test_unknown_names_are_ignored(box: Box) -> None:
    """security 8."""
    assert call(box, rule("ERRNO", "no_such_call_of_any_kernel", "umask")) == "EPERM"


def test_empty_filter(box: Box) -> None:
    """No rules: the default action alone."""
    spec = seccomp(fresh_spec("echo", "up"))
    del spec["linux"]["seccomp"]["syscalls"]
    assert box.run(spec).ok().out == "up\n"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="int 0x80 is of x86")
def test_architectures(box: Box) -> None:
    """One that is not listed is killed; one that is obeys the rules. 60 is umask of i386, whose argument here is 0."""
    control = fresh_spec("probe", "call32", "60")
    if box.run(control).code != 0:
        pytest.skip("no 32-bit calls on this kernel")
    script = shell("probe call32 60; echo code $?")
    lines = box.run(seccomp(script, rule("ERRNO", "umask"), architectures=[NATIVE, "SCMP_ARCH_X86"])).ok().lines
    assert lines == [str(-errno.EPERM), "code 0"]
    script = shell("probe call32 60; echo code $?")
    lines = box.run(seccomp(script, rule("ERRNO", "umask"), architectures=[NATIVE])).ok().lines
    assert lines == ["code 159"]


def test_no_architectures_means_the_native_one(box: Box) -> None:
    spec = seccomp(fresh_spec("probe", "call", "umask", "0"), rule("ERRNO", "umask"))
    del spec["linux"]["seccomp"]["architectures"]
    assert box.run(spec).ok().out == "EPERM\n"


@pytest.mark.parametrize("flags", [[], ["SECCOMP_FILTER_FLAG_LOG"], ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
                                   ["SECCOMP_FILTER_FLAG_TSYNC"]], ids=lambda f: f[0][20:] if f else "none")  # fmt: skip
def test_flags(box: Box, flags: list[str]) -> None:
    assert call(box, rule("ERRNO", "umask"), flags=flags) == "EPERM"


@pytest.mark.parametrize("nnp", [True, False])
def test_order_with_no_new_privileges(box: Box, nnp: bool) -> None:
    """security 5.9: without it the filter needs CAP_SYS_ADMIN, which the container's set does not have."""
    spec = seccomp(fresh_spec("probe", "call", "umask", "0"), rule("ERRNO", "umask"))
    spec["process"]["noNewPrivileges"] = nnp
    spec["process"]["user"] = {"uid": 1000, "gid": 1000}
    assert box.run(spec).ok().out == "EPERM\n"


def test_filter_holds_for_exec(box: Box) -> None:
    spec = seccomp(fresh_spec(), rule("ERRNO", "umask"))
    container = box.parked(spec)
    assert container.exec("probe", "call", "umask", "0").ok().out == "EPERM\n"
    assert container.exec("cat", "/proc/self/status").ok().fields()["Seccomp"] == "2"


def test_filter_that_forbids_what_the_runtime_did(box: Box) -> None:
    """The start's own calls are over when the filter is loaded, as far as the order of no_new_privs allows."""
    names = ("mount", "umount2", "pivot_root", "setns", "unshare", "keyctl", "sethostname", "mknodat", "open_tree",
             "move_mount", "fsopen", "fsmount", "mount_setattr", "setrlimit", "ptrace", "bpf")  # fmt: skip
    spec = seccomp(fresh_spec("echo", "up"), rule("KILL_PROCESS", *names))
    assert box.run(spec).ok().out == "up\n"


def test_default_of_kill_ends_in_time(box: Box) -> None:
    """P22: a filter that kills the start itself fails create, and nothing hangs or stays."""
    spec = seccomp(fresh_spec(), default="KILL_PROCESS")
    id = box.new_id()
    result = box.try_create(spec, id=id)
    if result.code == 0:
        box.runtime.call("start", id)
        box.runtime.call("delete", "--force", id).ok()
    else:
        result.failed(1)
    host.eventually(lambda: box.leftovers() == [])


# --- the listener

def notified(spec: dict, path: object, *names: str, **more: object) -> dict:
    return seccomp(spec, rule("NOTIFY", *names), listenerPath=str(path), **more)


def receive(listener: socket.socket) -> tuple[int, dict]:
    """Take the notify fd and the state that come along."""
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(10)
        data, control, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(64), socket.MSG_CMSG_CLOEXEC)
        while not data or data.count(b"{") > data.count(b"}"):
            more = connection.recv(65536)
            if not more:
                break
            data += more
    fds = array.array("i")
    for _, _, payload in control:
        fds.frombytes(payload)
    assert len(fds) == 1
    return fds[0], json.loads(data.rstrip(b"\0"))


def answer(fd: int, value: int, error: int) -> int:
    """Answer one notification; the pid that asked."""
    buffer = ctypes.create_string_buffer(80)
    fcntl.ioctl(fd, RECV, buffer, True)
    number, pid = struct.unpack_from("<QI", buffer.raw)
    fcntl.ioctl(fd, SEND, struct.pack("<QqiI", number, value, -error, 0))
    return pid


def test_notify(box: Box) -> None:
    """config-linux.md, ContainerProcessState: one fd named seccompFd, pid, metadata, state."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(box.dir / "listener"))
        listener.listen(1)
        listener.settimeout(10)
        spec = notified(fresh_spec("probe", "call", "umask", "0"), box.dir / "listener", "umask", listenerMetadata="mine")
        spec["annotations"] = {"a": "b"}
        container = box.create(spec)
        starting = box.runtime.spawn("start", container.id)
        fd, state = receive(listener)
        assert state["fds"] == ["seccompFd"]
        assert state["metadata"] == "mine"
        assert state["state"]["id"] == container.id
        assert state["state"]["annotations"] == {"a": "b"}
        assert state["pid"] == container.pid
        answer(fd, 4242, 0)
        starting.finish().ok()
        assert container.stream.rest() == "4242\n"
        os.close(fd)


def test_notify_answers_an_errno(box: Box) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(box.dir / "listener"))
        listener.listen(1)
        listener.settimeout(10)
        spec = notified(fresh_spec("probe", "call", "umask", "0"), box.dir / "listener", "umask")
        running = box.spawn_run(spec)
        fd, _ = receive(listener)
        answer(fd, 0, errno.ENOMEDIUM)
        assert running.finish().ok().out == "ENOMEDIUM\n"
        os.close(fd)


def test_notify_without_a_listener_is_refused(box: Box) -> None:
    """security 8."""
    box.refuses(seccomp(fresh_spec(), rule("NOTIFY", "umask")))
    box.refuses(notified(fresh_spec(), box.dir / "absent", "umask"))


# --- refusals

BAD = {
    "unknown action": lambda s: s["syscalls"][0].update(action="SCMP_ACT_FROB"),
    "unknown default action": lambda s: s.update(defaultAction="SCMP_ACT_FROB"),
    "no default action": lambda s: s.pop("defaultAction"),
    "unknown architecture": lambda s: s.update(architectures=["SCMP_ARCH_FROB"]),
    "no names": lambda s: s["syscalls"][0].update(names=[]),
    "argument 9": lambda s: s["syscalls"][0].update(args=[{"index": 9, "value": 0, "op": "SCMP_CMP_EQ"}]),
    "unknown comparison": lambda s: s["syscalls"][0].update(args=[{"index": 0, "value": 0, "op": "SCMP_CMP_FROB"}]),
    "errno with kill": lambda s: s["syscalls"][0].update(action="SCMP_ACT_KILL", errnoRet=5),
    "default errno with kill": lambda s: s.update(defaultAction="SCMP_ACT_KILL", defaultErrnoRet=5),
    "unknown flag": lambda s: s.update(flags=["SECCOMP_FILTER_FLAG_FROB"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_filter_is_refused(box: Box, name: str) -> None:
    """security 8."""
    spec = seccomp(fresh_spec(), rule("ERRNO", "umask"))
    BAD[name](spec["linux"]["seccomp"])
    box.refuses(spec)


def test_two_rules_for_one_call(box: Box) -> None:
    """Different arguments, different actions."""
    first = rule("ERRNO", "umask", errnoRet=errno.EACCES, args=[{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}])
    second = rule("ERRNO", "umask", errnoRet=errno.ENOSYS, args=[{"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}])
    spec = seccomp(shell("probe call umask 1; probe call umask 2; probe call umask 3"), first, second)
    assert box.run(spec).ok().lines == ["EACCES", "ENOSYS", "18"]


def test_filter_with_a_shared_pid_namespace_and_all_capabilities(box: Box) -> None:
    spec = seccomp(fresh_spec("probe", "call", "umask", "0"), rule("ERRNO", "umask"))
    drop_namespace(spec, "pid")
    set_caps(spec, *DOCKER_CAPS, "CAP_SYS_ADMIN")
    spec["process"]["noNewPrivileges"] = False
    assert box.run(spec).ok().out == "EPERM\n"
