"""The program: argv, environment, HOME, directory, filter, gate, execve (decisions 4, 5, 24, 26, 27)."""

import errno

import pytest
from support.plans import Listing, exec_request, in_order, made, small_spec

from skerry.errors import SpecError
from skerry.plan import join

O_NOCTTY, O_NONBLOCK, O_CLOEXEC = 0o400, 0o4000, 0o2000000
SEND_PASSWD, REPLY, FD, GO, READY = 4, 17, 5, 16, 6


class Filter:
    def __init__(self, *, listener: bool = False) -> None:
        self.flags, self.filter, self.listener = 4, b"\1" * 24, listener


def process(**properties: object) -> Listing:
    spec = small_spec()
    spec["process"].update(properties)
    return made(spec)


def strings(listing: Listing, op, position: int) -> list[str]:
    """What an array of pointers leads to; it ends with a zero."""
    words = op.words(position)
    data = bytes(listing.plan.data)
    found = [data[w : data.index(b"\0", w)].decode() for w in words if w]
    return found


def test_argv_and_environment() -> None:
    listing = process(args=["sh", "", "ü"], env=["A=1", "HOME=/", "B="])
    execve = listing.one("execve")
    assert strings(listing, execve, 1) == ["sh", "", "ü"] and execve.words(1)[-1] == 0
    assert strings(listing, execve, 2) == ["A=1", "HOME=/", "B="] and execve.words(2)[-1] == 0


def test_what_listens_is_told() -> None:
    spec = small_spec()
    listing = made(spec, extra_env=["LISTEN_FDS=2"], preserve=2)
    assert strings(listing, listing.one("execve"), 2)[-1] == "LISTEN_FDS=2"


@pytest.mark.parametrize(
    ("args0", "env", "candidates"),
    [
        ("/bin/sh", ["PATH=/x"], ["/bin/sh"]),
        ("./sh", ["PATH=/x"], ["./sh"]),
        ("sh", ["PATH=/a:/b"], ["/a/sh", "/b/sh"]),
        ("sh", ["PATH=:/b"], ["./sh", "/b/sh"]),
        ("sh", [], ["/bin/sh", "/usr/bin/sh"]),
        ("sh", ["PATH=/old", "PATH=/new"], ["/new/sh"]),
    ],
)
def test_where_the_program_is_looked_for(args0: str, env: list[str], candidates: list[str]) -> None:
    """execvp(3)."""
    listing = process(args=[args0], env=env)
    find = listing.one("FIND")
    assert strings(listing, find, 0) == candidates
    assert find.args[1] == len(candidates)
    assert listing.one("execve").args[0].number == find.dst.number


@pytest.mark.parametrize(("args0", "hint"), [("sh", "executable file not found in $PATH"), ("/x/sh", "")])
def test_words_that_engines_look_for(args0: str, hint: str) -> None:
    """security 7: docker and podman read exit code 127 out of them."""
    assert process(args=[args0]).one("FIND").hints[errno.ENOENT] == hint
    assert process().one("execve").hints[errno.EACCES] == "permission denied"


# --- HOME


def test_home_of_the_spec_is_enough() -> None:
    assert not process(env=["HOME=/x"]).find("SEND", SEND_PASSWD)


def test_home_is_asked_for_with_the_image_s_passwd() -> None:
    """decisions 24: by an open that follows no link out, waits for nothing, and of a regular file only (V38)."""
    listing = process(env=["A=1"])
    passwd = listing.one("openat2", ..., "etc/passwd")
    assert passwd.words(2) == [O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0, 0x10 | 0x02]  # IN_ROOT, NO_MAGICLINKS
    regular = listing.one("CHECK", passwd.dst, 0o100000)
    send = listing.one("SEND", SEND_PASSWD, 0, ...)  # of a copy: the image's file could be anything by then
    reply = listing.one("RECV", REPLY)
    assert (passwd.fail, passwd.errnos, regular.fail, regular.errnos) == (2, (), 2, ())  # jump on anything
    in_order(passwd, regular, send, reply)


def test_home_is_root_until_told() -> None:
    """The room is in the environment, and holds an answer of the largest size."""
    listing = process(env=["A=1"])
    reply = listing.one("RECV", REPLY)
    place, capacity = reply.op.args[1], reply.args[2]
    assert bytes(listing.plan.data[place.offset :][:7]) == b"HOME=/\0"
    assert place.size == capacity == 4096
    assert place.offset in listing.one("execve").words(2)


# --- the directory


def test_directory_is_made_and_entered_by_fd() -> None:
    """decisions 26; V12: what getcwd says is checked."""
    listing = process(cwd="/a/b")
    walk = listing.one("WALK", ..., "/a/b", 1, 0o755)
    enter = listing.one("fchdir", walk.dst)
    assert "not a directory" in walk.hints[errno.ENOTDIR]
    in_order(walk, enter, listing.find("CHECKCWD")[0])


def test_directory_closed_to_root_is_tried_again_by_the_user() -> None:
    """security 5.3."""
    listing = process(cwd="/a")
    walk = listing.one("WALK", ..., "/a", 1)
    enter = listing.one("fchdir", walk.dst)
    assert set(walk.errnos) == {errno.EACCES, errno.EPERM} < set(enter.errnos)
    branch = listing.one("BRANCH", enter.dst, 0, 0)
    again = listing.one("chdir", "/a")
    check = listing.find("CHECKCWD")[-1]
    assert (branch.index + 1, branch.target) == (again.index, check.index)
    assert again.fail == check.fail == 0


def test_register_of_the_directory_lives_until_then() -> None:
    listing = process(cwd="/a")
    enter = listing.one("fchdir", listing.one("WALK", ..., "/a", 1).dst)
    branch = listing.one("BRANCH", enter.dst, 0, 0)
    between = [op for op in listing if enter.index < op.index < branch.index]
    assert not [op for op in between if op.dst is not None and op.dst.number == enter.dst.number]


# --- the filter


@pytest.mark.parametrize("late", [False, True])
def test_filter(late: bool) -> None:
    """seccomp(2): flags, and a struct sock_fprog."""
    spec = small_spec()
    spec["process"]["noNewPrivileges"] = late
    listing = made(spec, seccomp=Filter())
    op = listing.one("seccomp", 1, 4)
    length, code = op.words(2)
    assert length == 3
    assert bytes(listing.plan.data[code : code + 24]) == b"\1" * 24
    assert op.op.args[2].offset + 8 in listing.plan.relocations


def test_listener_is_handed_out_by_its_number() -> None:
    """sendmsg may be what the filter stops; the parent fetches it."""
    listing = made(seccomp=Filter(listener=True))
    load = listing.one("seccomp", 1, 4 | 8)  # NEW_LISTENER
    send = listing.one("SEND", FD)
    assert send.args[1].number == load.dst.number and send.args[2] == -1
    wait = next(op for op in listing.find("RECV", GO) if op.index > send.index)
    close = listing.one("close", load.dst)
    in_order(load, send, wait, close)


def test_no_filter() -> None:
    assert not made().find("seccomp")


# --- the gate


def test_only_what_the_gate_needs_stays_open() -> None:
    """V12: conversation (closed before the gate), gate, signals; all close-on-exec."""
    listing = made(preserve=2)
    signals = listing.one("signalfd4", -1, b"\xff" * 8, 8, O_CLOEXEC)
    close = listing.one("CLOSE", step="close what the program")
    assert close.args[:3] == [5, 6, 7] and close.args[3].number == signals.dst.number
    gate = listing.one("GATE")
    assert gate.args[0] == 7 and gate.args[1].number == signals.dst.number
    in_order(close, listing.one("close", 6), gate)


def test_signals_are_blocked_for_the_gate_and_free_for_the_program() -> None:
    """decisions 5: a TERM to a created container stops it; P05: nothing is blocked afterwards."""
    listing = made()
    blocks = [(op.index, op.args[1]) for op in listing.find("rt_sigprocmask", 2)]
    gate, execve = listing.one("GATE").index, listing.one("execve").index
    before = [mask for index, mask in blocks if index < gate]
    after = [mask for index, mask in blocks if gate < index < execve]
    assert before[-1] == b"\xff" * 8 and after == [bytes(8)]


@pytest.mark.parametrize(("soft", "preserve", "fits"), [(3, 0, False), (4, 0, True), (5, 2, False), (6, 2, True)])
def test_limit_that_leaves_no_fd_for_start(soft: int, preserve: int, fits: bool) -> None:
    spec = small_spec()
    spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": soft, "hard": 100}]
    if fits:
        made(spec, preserve=preserve, limits={7: (1024, 4096)})
        return
    with pytest.raises(SpecError) as caught:
        made(spec, preserve=preserve, limits={7: (1024, 4096)})
    assert caught.value.pointer == "/process/rlimits/0/soft"


def test_exec_has_no_gate() -> None:
    listing = Listing(join.build(exec_request()))
    assert not listing.find("GATE") and not listing.find("signalfd4")
    assert listing.one("FIND").pointer == "/args/0"
