"""The printed plan: what a reader of strace expects, and what must not be shown."""

import struct

import pytest

from skerry.plan import ops, show
from skerry.plan.build import Plan
from skerry.plan.show_calls import CALLS, Arguments


def shown(*call: object, result: bool = False, **how: object) -> str:
    """One operation, printed; arguments that are tuples are words, bytes are a blob."""
    p = Plan("x86_64")
    p.enter_process("x")
    name, *args = call
    data = [p.words(list(a)) if isinstance(a, tuple) else p.blob(a) if isinstance(a, bytes) else a for a in args]
    (p.result if result else p.call)(name, *data, **how)
    return show.text(p).splitlines()[-1].strip()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (("openat", -100, "/x", 0o12000000, 0), 'openat(AT_FDCWD, "/x", O_CLOEXEC|O_PATH, 0)'),
        (("openat", -100, "/x", 0o2000000, 0), 'openat(AT_FDCWD, "/x", O_RDONLY|O_CLOEXEC, 0)'),
        (("openat", 3, "/x", 0o2600102, 0o600), 'openat(3, "/x", O_RDWR|O_CREAT|O_CLOEXEC|O_DIRECTORY|O_NOFOLLOW, 0600)'),
        (("openat2", 3, "etc", (0o2000000, 0, 0x12), 24), 'openat2(3, "etc", {flags=O_RDONLY|O_CLOEXEC, resolve=NO_MAGICLINKS|IN_ROOT}, 24)'),
        (("mount_setattr", 3, "", 0x9000, (0x2F, 0x70, 0, 0), 32), 'mount_setattr(3, "", AT_EMPTY_PATH|AT_RECURSIVE, {set=RDONLY|NOSUID|NODEV|NOEXEC|STRICTATIME, clear=ATIME}, 32)'),
        (("mount_setattr", 3, "", 0x1000, (0, 0x71, 0, 0), 32), 'mount_setattr(3, "", AT_EMPTY_PATH, {set=RELATIME, clear=RDONLY|ATIME}, 32)'),
        (("mount_setattr", 3, "", 0x1000, (0, 0, 1 << 18, 0), 32), 'mount_setattr(3, "", AT_EMPTY_PATH, {propagation=PRIVATE}, 32)'),
        (("fsmount", 3, 1, 0x1F), "fsmount(3, FSMOUNT_CLOEXEC, RDONLY|NOSUID|NODEV|NOEXEC|NOATIME)"),
        (("fsconfig", 3, 1, "size", "1m", 0), 'fsconfig(3, FSCONFIG_SET_STRING, "size", "1m", 0)'),
        (("fsconfig", 3, 6, 0, 0, 0), "fsconfig(3, FSCONFIG_CMD_CREATE, NULL, NULL, 0)"),
        (("move_mount", 3, "", 4, "", 0x44), 'move_mount(3, "", 4, "", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH)'),
        (("prlimit64", 0, 7, (1024, 2**64 - 1), 0), "prlimit64(0, RLIMIT_NOFILE, {soft=1024, hard=infinity}, NULL)"),
        (("setns", 3, 0x30000000), "setns(3, CLONE_NEWUSER|CLONE_NEWPID)"),
        (("clone3", (0x8400, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88), "clone3({flags=CLONE_FILES|CLONE_PARENT, exit_signal=SIGCHLD}, 88)"),
        (("prctl", 24, 21, 0, 0, 0), "prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN)"),
        (("prctl", 47, 2, 5, 0, 0), "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL)"),
        (("prctl", 47, 4, 0, 0, 0), "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)"),
        (("prctl", 38, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS, 1)"),
        (("rt_sigprocmask", 2, b"\xff" * 8, 0, 8), "rt_sigprocmask(SIG_SETMASK, ~[], NULL, 8)"),
        (("rt_sigprocmask", 2, bytes(8), 0, 8), "rt_sigprocmask(SIG_SETMASK, [], NULL, 8)"),
        (("capset", struct.pack("<Ii", 0x20080522, 0), struct.pack("<6I", 1, 0x21, 0, 0, 1, 0)), "capset({version=3, pid=0}, {effective=CAP_CHOWN, permitted=CAP_CHOWN|CAP_KILL|CAP_MAC_OVERRIDE, inheritable=0})"),
        (("setgroups", 2, struct.pack("<2I", 5, 4294967294)), "setgroups(2, [5, 4294967294])"),
        (("mknodat", 3, "x", 0o60660, 0x11032C), 'mknodat(3, "x", S_IFBLK|0660, device 259:300)'),
        (("CHECK", 3, 0o20000, 0x502, 0x1CD1, 2), "CHECK(3, S_IFCHR, device 5:2, DEVPTS_SUPER_MAGIC, inode 2)"),
        (("WALK", 3, "/a", 9, 0o755), 'WALK(3, "/a", DIRECTORY|EXISTING, 0755)'),
        (("fchown", 0, 1000, 0xFFFFFFFF), "fchown(0, 1000, -1)"),
        (("umask", 0o22), "umask(0022)"),
        (("sched_setaffinity", 0, 1024, b"\xff" * 1024), "sched_setaffinity(0, 1024, [0-8191])"),
        (("sched_setaffinity", 0, 8, b"\x0d\0\x80" + bytes(5)), "sched_setaffinity(0, 8, [0,2-3,23])"),
        (("sched_setattr", 0, struct.pack("<IIQiIQQQII", 56, 1, 1, -3, 7, 0, 0, 0, 0, 0), 0), "sched_setattr(0, {SCHED_FIFO, nice=-3, priority=7, flags=RESET_ON_FORK}, 0)"),
        (("ioprio_set", 1, 0, 2 << 13 | 6), "ioprio_set(IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_BE|6)"),
        (("set_mempolicy", 2 | 1 << 15, b"\x05" + bytes(127), 1025), "set_mempolicy(MPOL_BIND|MPOL_F_STATIC_NODES, [0,2], 1025)"),
        (("ioctl", 3, 0x5414, b"\x19\0\x50\0\0\0\0\0"), "ioctl(3, TIOCSWINSZ, {rows=25, columns=80})"),
        (("ioctl", 3, 0x5441, 0o2000402), "ioctl(3, TIOCGPTPEER, O_RDWR|O_NOCTTY|O_CLOEXEC)"),
        (("seccomp", 1, 12, (3, 0)), "seccomp(SECCOMP_SET_MODE_FILTER, SPEC_ALLOW|NEW_LISTENER, {3 instructions})"),
        (("SEND", ops.READY, 0, -1), "SEND(READY, 0, -1)"),
        (("close_range", 3, 0xFFFFFFFF, 4), "close_range(3, 0xffffffff, CLOSE_RANGE_CLOEXEC)"),
        (("keyctl", 1, "_ses.x"), 'keyctl(KEYCTL_JOIN_SESSION_KEYRING, "_ses.x")'),
        (("mount", 'a"b\\', "/", "overlay", 0, "o"), 'mount("a\\"b\\\\", "/", "overlay", 0, "o")'),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_calls(call: tuple, text: str) -> None:
    """Names and numbers as in the headers that linux/abi.py names, and strace(1)."""
    assert shown(*call) == text


def test_flags_of_the_other_machine() -> None:
    """O_DIRECTORY and O_NOFOLLOW of arm64."""
    p = Plan("aarch64")
    p.call("openat", -100, "/", 0o140000, 0)
    assert "O_RDONLY|O_DIRECTORY|O_NOFOLLOW" in show.text(p)


def test_every_row_is_of_a_known_call() -> None:
    from skerry.linux import abi

    assert [name for name in CALLS if name not in abi.SYSCALLS and name not in ops.CODES] == []


@pytest.mark.parametrize(
    ("how", "text"),
    [({}, "dup(0) -> r0"), ({"ignore": (2, 20)}, "dup(0) -> r0, or ENOENT|ENOTDIR"), ({"ignore": ()}, "dup(0) -> r0, or any error")],
)
def test_failures(how: dict, text: str) -> None:
    assert shown("dup", 0, result=True, **how) == text


def test_jumps_are_letters_that_are_free_again() -> None:
    """A new operation must not change the lines of others."""
    p = Plan("x86_64")
    for _ in range(2):
        first, second = p.mark(), p.mark()
        fd = p.result("dup", 0, jump=(2,), to=first)
        p.branch(fd, ops.LT, 3, second)
        p.goto(first)
        p.place(second)
        p.call("close", 7)
        p.place(first)
    end = p.mark()
    p.call("dup", 0, jump=(), to=end)
    p.place(end)
    lines = [line.strip() for line in show.text(p).splitlines()[-9:]]
    assert lines == [
        "dup(0) -> r0, to a on ENOENT", "if r0 < 3 to b", "go on to a", "b: close(7)",
        "a: dup(0) -> r1, to b on ENOENT", "if r1 < 3 to a", "go on to b", "a: close(7)",
        "b: dup(0), to the end on any error",
    ]  # fmt: skip


def test_values_of_the_environment_are_never_shown() -> None:
    """P08."""
    p = Plan("x86_64")
    env = p.words([p.text("SECRET=hunter2"), p.text("TOKEN=abc"), 0])
    p.call("execve", 3, p.words([p.text("sh"), p.text("-c"), 0]), env)
    p.call("HOOK", "/h", p.words([p.text("h"), 0]), env, 0, 0, 0)
    text = show.text(p)
    assert 'execve(3, ["sh", "-c"], [SECRET=..., TOKEN=...])' in text
    assert "hunter2" not in text and "hunter2" not in str(show.as_json(p))


def test_memory_is_named_where_it_is_read_and_written() -> None:
    p = Plan("x86_64")
    pidfd, home = p.reserve(8), p.blob(b"HOME=/" + bytes(58))
    p.call("clone3", p.words([0x1000, pidfd, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 88)
    p.result("LOAD", pidfd, 4)
    p.call("RECV", ops.REPLY, home, 64)
    p.call("execve", 0, p.words([0]), p.words([p.text("A=1"), home, 0]))
    lines = [line.strip() for line in show.text(p).splitlines()[-4:]]
    assert lines == [
        "clone3({flags=CLONE_PIDFD, pidfd=m1, exit_signal=0}, 88)", "LOAD(m1, 4) -> r0", "RECV(REPLY, m2, 64)",
        "execve(0, [], [A=..., HOME=m2])",
    ]  # fmt: skip


def test_state_of_a_hook_shows_where_the_pid_goes() -> None:
    p = Plan("x86_64")
    state = p.blob(b'{"pid":9999999999,"x":1}')
    p.text("what lies behind it")
    p.call("RECV", ops.GO, state.at(7), 10)
    p.call("HOOK", "/h", p.words([0]), p.words([0]), state, 24, 0)
    assert '[], [], {"pid":m1,"x":1}, 24, 0)' in show.text(p)


def test_what_has_no_row_is_shown_by_what_it_is() -> None:
    assert shown("chdir", "/") == 'chdir("/")'
    assert shown("exit_group", -1) == "exit_group(-1)"
    assert shown("lseek", 3, 1 << 40, 0) == "lseek(3, 0x10000000000, 0)"
    assert shown("write", 3, b"\0\1\2", 3) == "write(3, [00 01 02], 3)"
    assert shown("write", 3, b"\0" * 40, 40) == "write(3, [40 bytes], 40)"


def small() -> Plan:
    p = Plan("x86_64")
    p.fds = {4: "the conversation", 3: "the plan"}
    p.enter_process("skerry:1:outer")
    p.step("open x", "/x")
    end = p.mark()
    p.result("dup", 0, jump=(2,), to=end)
    p.step("open x", "/x")
    p.call("dup", 1, ignore=())
    p.place(end)
    p.enter_process("skerry:2:init")
    return p


def test_text() -> None:
    assert show.text(small(), ["/root/path: cannot open /r: ENOENT"]) == (
        "create would refuse now: /root/path: cannot open /r: ENOENT\n"
        "\n"
        "fds at the start\n"
        "  3: the plan\n"
        "  4: the conversation\n"
        "\n"
        "skerry:1:outer\n"
        "  begin as skerry:1:outer\n"
        '      prctl(PR_SET_NAME, "skerry:1:outer")\n'
        "  open x  [/x]\n"
        "      dup(0) -> r0, to a on ENOENT\n"
        "      dup(1), or any error\n"
        "\n"
        "skerry:2:init\n"
        "  begin as skerry:2:init\n"
        '   a: prctl(PR_SET_NAME, "skerry:2:init")\n'
    )


def test_json() -> None:
    found = show.as_json(small(), ["doubt"])
    assert found["doubts"] == ["doubt"]
    assert found["fds"] == {"3": "the plan", "4": "the conversation"}
    assert found["processes"] == ["skerry:1:outer", "skerry:2:init"]
    assert found["ops"][1] == {
        "index": 1, "process": "skerry:1:outer", "step": "open x", "pointer": "/x", "op": "dup(0)", "result": "r0",
        "ignore": None, "jump": {"on": ["ENOENT"], "to": 3},
    }  # fmt: skip
    assert (found["ops"][2]["ignore"], found["ops"][2]["result"], found["ops"][2]["jump"]) == ([], None, None)


def test_arguments_alone() -> None:
    p = small()
    assert Arguments(p).of(p.ops[1]) == "dup(0)"
