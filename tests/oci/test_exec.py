"""exec: both forms, every flag, exit codes, users, what it joins."""

import os
import signal
from pathlib import Path

import pytest
from support import host
from support.box import Box, Container
from support.spec import DOCKER_CAPS, fresh_spec, set_caps, shell


@pytest.fixture
def container(box: Box) -> Container:
    return box.parked(fresh_spec())


# --- running something

@pytest.mark.parametrize("code", [0, 1, 3, 127, 255])
def test_exit_code(container: Container, code: int) -> None:
    """lifecycle 98."""
    assert container.exec("sh", "-c", f"exit {code}").code == code


def test_death_by_signal(container: Container) -> None:
    assert container.exec("sh", "-c", "kill -9 $$").code == 137


def test_streams(container: Container) -> None:
    result = container.exec("sh", "-c", "cat; echo err >&2", stdin=b"input")
    assert (result.code, result.out, result.err) == (0, "input", "err\n")


def test_options_end_at_the_id(container: Container) -> None:
    """lifecycle 95: all after the id is the command."""
    assert container.exec("echo", "--cwd", "-e", "--").ok().out == "--cwd -e --\n"


def test_exec_is_in_all_namespaces(container: Container) -> None:
    out = container.exec("sh", "-c", "for n in ipc mnt net pid uts user cgroup; do readlink /proc/self/ns/$n; done").ok().lines
    theirs = host.namespaces_of(container.pid)
    assert out == [theirs[n] for n in ("ipc", "mnt", "net", "pid", "uts", "user", "cgroup")]


def test_exec_sees_the_root_and_init(container: Container) -> None:
    assert container.exec("cat", "/proc/1/comm").ok().out == "probe\n"
    assert container.exec("sh", "-c", "echo $(readlink /proc/1/root) $PPID").ok().out == "/ 0\n"


def test_exec_on_a_created_container(box: Box) -> None:
    """lifecycle 94."""
    container = box.create(fresh_spec("true"))
    assert container.exec("echo", "up").ok().out == "up\n"
    assert container.status == "created"


def test_exec_on_a_stopped_container(container: Container) -> None:
    """lifecycle 94."""
    container.end()
    result = container.exec("true")
    assert result.code == 255
    assert "cannot exec in a stopped container" in result.err or "cannot exec a container that has stopped" in result.err


@pytest.mark.skerry_only("lifecycle 94")
def test_text_on_a_stopped_container(container: Container) -> None:
    container.end()
    container.exec("true").failed(255).says("cannot exec in a stopped container")


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("no-such-program", "executable file not found in $PATH"),
        ("/no/such/program", "no such file or directory"),
        ("/etc/passwd", "permission denied"),
    ],
)
def test_program_that_cannot_run(container: Container, program: str, text: str) -> None:
    """lifecycle P, security 7: 255, and the words that engines look for."""
    result = container.exec(program)
    assert result.code == 255
    assert text in result.err, result


def test_no_command(container: Container) -> None:
    """lifecycle 96."""
    assert container.exec().code != 0


@pytest.mark.skerry_only("lifecycle 96")
def test_no_command_text(container: Container) -> None:
    container.exec().failed(255).says("exec args cannot be empty")


def test_many_at_once(container: Container) -> None:
    running = [
        container.box.runtime.spawn("exec", container.id, "sh", "-c", f"read x; echo {n} $x; exit {n}", stdin=b"go\n")
        for n in range(8)
    ]
    for n, one in enumerate(running):
        result = one.finish()
        assert (result.code, result.out) == (n, f"{n} go\n")


def test_exec_that_outlives_its_children(container: Container) -> None:
    """A child that keeps stdout open does not hold the caller; its stdout here is a file."""
    assert container.exec("sh", "-c", "sleep 1000 & echo up").ok().out == "up\n"


def test_signals_are_forwarded(container: Container) -> None:
    end, out = os.pipe()
    running = container.box.runtime.spawn("exec", container.id, "probe", "catch", stdout=out)
    os.close(out)
    assert os.read(end, 100) == b"ready\n"
    running.signal(signal.SIGUSR1)
    assert running.finish().code == signal.SIGUSR1
    assert os.read(end, 100) == b"signal 10\n"
    os.close(end)


# --- base and flags

def test_the_stored_process_is_the_base(box: Box) -> None:
    """lifecycle 97: cwd, env, user, capabilities, no_new_privs, limits."""
    spec = fresh_spec()
    spec["process"].update(cwd="/usr", env=["PATH=/bin", "A=1"], user={"uid": 1000, "gid": 1001, "additionalGids": [7]})
    spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 99}]
    container = box.parked(spec)
    found = container.exec("cat", "/proc/self/status").ok().fields()
    assert (found["Uid"].split()[0], found["Gid"].split()[0], found["Groups"]) == ("1000", "1001", "7")
    assert found["NoNewPrivs"] == "1"
    assert found["CapBnd"] == host.status_of(container.pid)["CapBnd"]
    assert container.exec("pwd").ok().out == "/usr\n"
    assert "A=1" in container.exec("env").ok().lines
    assert "99" in next(line for line in container.exec("cat", "/proc/self/limits").ok().lines if "open files" in line)


def test_cwd(container: Container) -> None:
    assert container.exec("pwd", flags=("--cwd", "/usr/bin")).ok().out == "/usr/bin\n"


@pytest.mark.parametrize("cwd", ["usr", "/etc/passwd", "/no/where"])
def test_bad_cwd(container: Container, cwd: str) -> None:
    """lifecycle 96."""
    assert container.exec("pwd", flags=("--cwd", cwd)).code == 255


def test_missing_cwd_is_not_made(box: Box) -> None:
    """That of init is (decisions 26); podman takes 127 from the words."""
    spec = fresh_spec()
    spec["root"]["readonly"] = False
    container = box.parked(spec)
    result = container.exec("pwd", flags=("--cwd", "/no/where")).failed(255)
    assert "no such file or directory" in result.err.lower(), result
    assert not (container.bundle / "rootfs/no").exists()


def test_cwd_text(container: Container) -> None:
    """lifecycle 96."""
    result = container.exec("pwd", flags=("--cwd", "usr"))
    assert result.code == 255
    assert "cwd must be an absolute path" in result.err.lower(), result


def test_env(container: Container) -> None:
    """lifecycle 97: appended, the last of equal names wins; the stored ones stay."""
    flags = ("-e", "A=1", "-e", "B=x=y", "-e", "TERM=mine", "-e", "A=2")
    lines = container.exec("env", flags=flags, env={"SECRET": "caller"}).ok().lines
    assert {"A=2", "B=x=y", "TERM=mine"} <= set(lines)
    assert not {"A=1", "TERM=xterm"} & set(lines)
    assert not [line for line in lines if line.startswith("SECRET")]


def test_home_of_exec(container: Container) -> None:
    """decisions 24."""
    assert "HOME=/home/user" in container.exec("env", flags=("-u", "1000")).ok().lines


USERS = [("0", "0", "0"), ("1", "1", "0"), ("1000", "1000", "0"), ("1000:0", "1000", "0"), ("1000:1001", "1000", "1001"),
         ("2147483647:2147483647", "2147483647", "2147483647")]  # fmt: skip


@pytest.mark.parametrize(("user", "uid", "gid"), USERS)
def test_user(container: Container, user: str, uid: str, gid: str) -> None:
    """V25: every form; V01: `1000` is a number though the image has a user of that name with uid 0."""
    found = container.exec("cat", "/proc/self/status", flags=("-u", user)).ok().fields()
    assert found["Uid"].split() == [uid] * 4
    assert found["Gid"].split() == [gid] * 4


@pytest.mark.parametrize(
    "user",
    ["-1", "4294967295", "4294967296", "0x10", "1x", "", " 1", "１２", "user", "root", "1:", ":1", "1:2:3", "1:-1", "+1",
     "1_0", "99999999999999999999", "1:4294967296"],
)  # fmt: skip
def test_bad_user(container: Container, user: str) -> None:
    """V19, V37, P09: strict decimal 0..4294967294."""
    result = container.exec("id", "-u", flags=("--user=" + user,))
    assert result.code == 255, result
    assert result.out == ""


@pytest.mark.parametrize("user", ["2147483648", "4294967294"])
def test_large_user(container: Container, user: str) -> None:
    """V37: that uid or an error."""
    result = container.exec("cat", "/proc/self/status", flags=("-u", user))
    assert result.code == 255 or result.fields()["Uid"].split() == [user] * 4, result


def test_additional_groups(container: Container) -> None:
    flags = ("-u", "1000", "-g", "2000", "-g", "3000")
    found = container.exec("cat", "/proc/self/status", flags=flags).ok().fields()
    assert sorted(found["Groups"].split()) == ["2000", "3000"]


def test_groups_of_the_caller_never_arrive(container: Container) -> None:
    """V56."""
    found = container.exec("cat", "/proc/self/status", flags=("-u", "1000:1000"), groups=[4, 24]).ok().fields()
    assert found["Groups"] in ("", "1000")


def test_capability(box: Box) -> None:
    """V10: bounding, permitted, effective; never inheritable."""
    spec = fresh_spec()
    container = box.parked(spec)
    before = int(container.exec("cat", "/proc/self/status").ok().fields()["CapEff"], 16)
    found = container.exec("cat", "/proc/self/status", flags=("--cap", "CAP_NET_RAW")).ok().fields()
    for name in ("CapBnd", "CapPrm", "CapEff"):
        assert int(found[name], 16) == before | 1 << 13
    assert int(found["CapInh"], 16) == 0
    assert int(found["CapAmb"], 16) == 0


def test_no_new_privileges_by_flag(box: Box) -> None:
    spec = fresh_spec()
    spec["process"]["noNewPrivileges"] = False
    container = box.parked(spec)
    assert container.exec("cat", "/proc/self/status").ok().fields()["NoNewPrivs"] == "0"
    assert container.exec("cat", "/proc/self/status", flags=("--no-new-privs",)).ok().fields()["NoNewPrivs"] == "1"


def test_pid_file(container: Container) -> None:
    """lifecycle 98."""
    pid_file = container.box.dir / "exec.pid"
    container.exec("probe", "park", flags=("--detach", "--pid-file", pid_file)).ok()
    text = pid_file.read_text()
    pid = int(text)
    assert text == str(pid)
    assert host.namespaces_of(pid)["pid"] == host.namespaces_of(container.pid)["pid"]
    assert pid in container.verb("ps", "-f", "json").ok().json()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_detach_does_not_wait(container: Container) -> None:
    container.exec("sleep", "1000", flags=("-d", "--pid-file", container.box.dir / "exec.pid")).ok()
    assert len(container.verb("ps", "-f", "json").ok().json()) == 2


def test_detached_exec_that_cannot_run(container: Container) -> None:
    result = container.exec("no-such-program", flags=("-d",))
    assert result.code == 255
    assert "executable file not found in $PATH" in result.err


def test_unwritable_pid_file(container: Container) -> None:
    """security 8: refused, and nothing of it stays."""
    result = container.exec("sleep", "1000", flags=("-d", "--pid-file", container.box.dir / "missing/pid"))
    assert result.code == 255
    host.eventually(lambda: container.verb("ps", "-f", "json").ok().json() == [container.pid])


# --- what it must not get

def test_signals_and_umask_are_at_their_defaults(container: Container) -> None:
    """P05, P06."""
    found = container.exec("cat", "/proc/self/status", umask=0o777).ok().fields()
    assert int(found["SigIgn"], 16) == int(found["SigBlk"], 16) == 0
    assert found["Umask"] == "0022"


def test_fds(container: Container) -> None:
    """V02, V12."""
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    rows = [line.split()[0] for line in container.exec("probe", "fds", pass_fds=(leak,)).ok().lines]
    os.close(leak)
    assert rows == ["0", "1", "2"]


def test_preserved_fds(container: Container) -> None:
    kept = tuple(os.memfd_create(f"kept{n}") for n in range(2))
    result = container.exec("probe", "fds", flags=("--preserve-fds", "2"), fds=kept).ok()
    for fd in kept:
        os.close(fd)
    assert [line.split()[0] for line in result.lines] == ["0", "1", "2", "3", "4"]
    assert "kept0" in result.lines[3]


def test_affinity_of_exec(container: Container) -> None:
    assert container.exec("cat", "/proc/self/status").ok().fields()["Cpus_allowed_list"] == (
        host.status_of(container.pid)["Cpus_allowed_list"]
    )


def test_cgroup_of_exec(box: Box) -> None:
    spec = fresh_spec()
    spec["linux"]["cgroupsPath"] = box.cgroup_path()
    container = box.parked(spec)
    pid_file = box.dir / "pid"
    container.exec("sleep", "1000", flags=("-d", "--pid-file", pid_file)).ok()
    pid = int(pid_file.read_text())
    assert Path(f"/proc/{pid}/cgroup").read_text() == Path(f"/proc/{container.pid}/cgroup").read_text()


@pytest.mark.parametrize("path", ["../x", "/../../x", "a/../../x"])
def test_cgroup_flag_stays_inside(container: Container, path: str) -> None:
    """V21: containment by components."""
    assert container.exec("true", flags=("--cgroup", path)).code != 0


def test_exec_follows_no_link_out_of_the_root(box: Box) -> None:
    """V12: a cwd that is a link to a leaked directory."""
    where = box.bundle(fresh_spec("probe", "park"))
    for n in range(3, 16):
        (where / f"rootfs/link{n}").symlink_to(f"/proc/self/fd/{n}")
    container = box.start(None, bundle=where)
    container.stream.until("ready")
    assert container.exec("pwd", flags=("--cwd", "/vol")).ok().out == "/vol\n"
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    for n in range(3, 16):
        result = container.exec("ls", flags=("--cwd", f"/link{n}"), pass_fds=(leak,))
        assert result.code != 0, (n, result)
    os.close(leak)


def test_exec_by_a_shell_of_the_container(box: Box) -> None:
    """A capability the container lacks is not given by exec."""
    spec = shell("true")
    set_caps(spec, *DOCKER_CAPS)
    container = box.parked(spec)
    assert container.exec("hostname", "changed").code != 0
    assert container.exec("hostname").ok().out == "box\n"
