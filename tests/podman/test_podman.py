"""What podman's users do, done through podman and conmon to the runtime under test (engines 3)."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from podman_driver import IMAGE, RUNTIME

WAITS_FOR_SIGNALS = """
trap 'echo got TERM; exit 7' TERM
trap 'echo got USR1' USR1
echo ready
while :; do sleep 0.1; done
"""


def run(podman, *words, code=0, **options):
    return podman.out("run", "--rm", *words, code=code, **options)


def test_podman_uses_the_runtime_under_test(podman, container):
    """Its version is what podman shows, and the container is among its own."""
    version = subprocess.check_output([RUNTIME, "--version"], text=True)
    shown = podman.out("info", "--format", "{{.Host.OCIRuntime.Version}}")
    assert shown.replace("\n", "") == version.strip().replace("\n", "")
    name = container()
    known = subprocess.check_output(
        [RUNTIME, "--root", podman.top / "state", "list", "-q"], text=True
    )
    assert podman.inspect(name, ".Id") in known.split()


def test_run_passes_output_and_exit_code(podman):
    done = podman.call("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 3", code=3)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_run_passes_input(podman):
    assert run(podman, "-i", IMAGE, "cat", stdin=None, input="some\ninput\n") == "some\ninput"


@pytest.mark.parametrize(
    "program, code, words",
    [
        ("nowhere", 127, "executable file not found in \\$PATH|no such file or directory"),
        ("/bin/nowhere", 127, "no such file or directory"),
        ("/bin/unreadable", 126, "permission denied"),
        ("/etc", 126, "permission denied|is a directory"),
    ],
)
def test_program_that_cannot_be_run_has_dockers_exit_codes(podman, program, code, words):
    """lifecycle 67; podman makes 126 and 127 of the runtime's words."""
    done = podman.call("run", "--rm", IMAGE, program, code=code)
    assert re.search(words, done.stderr, re.IGNORECASE)


def test_run_on_a_terminal(podman):
    with podman.terminal("run", "--rm", "-it", IMAGE, "sh", rows=33, columns=101) as terminal:
        terminal.type("tty; echo $((6*7))\r")
        assert "/dev/pts/0" in terminal.expect("42")
        terminal.type("stty size\r")
        terminal.expect("33 101")
        terminal.resize(44, 120)
        terminal.type(
            "while [ \"$(stty size)\" != '44 120' ]; do sleep 0.1; done; echo new'size'\r"
        )
        terminal.expect("newsize")
        terminal.type("exit 5\r")
        assert terminal.wait() == 5


def test_terminal_passes_the_interrupt_key(podman):
    script = "trap 'exit 9' INT; echo ready; while :; do sleep 0.1; done"
    with podman.terminal("run", "--rm", "-it", IMAGE, "sh", "-c", script) as terminal:
        terminal.expect("ready")
        terminal.type("\x03")
        assert terminal.wait() == 9


def test_exec(podman, container):
    name = container("--env", "WHO=me", "--workdir", "/tmp")
    assert podman.out("exec", name, "sh", "-c", "echo $WHO; pwd") == "me\n/tmp"
    assert podman.out("exec", "--env", "WHO=you", name, "sh", "-c", "echo $WHO") == "you"
    assert podman.out("exec", "--user", "1000", name, "id", "-u") == "1000"
    assert podman.out("exec", "-i", name, "cat", stdin=None, input="typed") == "typed"
    podman.call("exec", name, "sh", "-c", "exit 9", code=9)
    podman.call("exec", name, "nowhere", code=127)


def test_exec_on_a_terminal(podman, container):
    name = container()
    with podman.terminal("exec", "-it", name, "sh", rows=20, columns=90) as terminal:
        # podman sets the size some time after it has attached. The words that are awaited are not among those typed.
        terminal.type('tty; until [ "$(stty size 2>/dev/null)" = "$((10+10)) 90" ]; do :; done; stty size; exit 4\r')
        assert "/dev/pts/" in terminal.expect("20 90")
        assert terminal.wait() == 4


def test_exec_detached(podman, container):
    name = container()
    podman.call("exec", "--detach", name, "sh", "-c", "echo done > /proc/1/fd/1")
    podman.log(name, "done")


def test_stop_lets_the_program_end(podman, container):
    name = container(command=("sh", "-c", WAITS_FOR_SIGNALS))
    podman.log(name, "ready")
    podman.call("stop", name)
    assert podman.inspect(name, ".State.ExitCode") == "7"
    assert "got TERM" in podman.out("logs", name)


def test_stop_kills_what_does_not_listen(podman, container):
    name = container(command=("sleep", "inf"))
    podman.call("stop", "--time", "1", name)
    assert podman.inspect(name, ".State.ExitCode") == "137"


def test_kill_sends_the_signal_asked_for(podman, container):
    name = container(command=("sh", "-c", WAITS_FOR_SIGNALS))
    podman.log(name, "ready")
    podman.call("kill", "--signal", "USR1", name)
    podman.log(name, "got USR1")
    podman.call("kill", name)
    podman.until(name, ".State.Status", "exited")
    assert podman.inspect(name, ".State.ExitCode") == "137"


def test_pause_and_unpause(podman, container):
    name = container(command=("sh", "-c", "while :; do echo tick; sleep 0.05; done"))
    podman.log(name, "tick")
    podman.call("pause", name)
    assert podman.inspect(name, ".State.Status") == "paused"
    frozen = podman.out("logs", name)
    podman.call("exec", name, "true", code=255)
    podman.call("unpause", name)
    assert podman.inspect(name, ".State.Status") == "running"
    podman.log(name, frozen[-1] + "\ntick\n")
    assert podman.out("exec", name, "echo", "alive") == "alive"


def test_logs_keep_the_order_of_both_streams(podman, container):
    name = container(command=("sh", "-c", "for i in 1 2 3; do echo out $i; echo err $i >&2; done"))
    podman.until(name, ".State.Status", "exited")
    done = podman.call("logs", name)
    assert done.stdout.split("\n")[:3] == ["out 1", "out 2", "out 3"]
    assert done.stderr.split("\n")[:3] == ["err 1", "err 2", "err 3"]


def test_restart_runs_the_same_container_again(podman, container):
    name = container(command=("sh", "-c", "echo run >> /tmp/runs; cat /tmp/runs; sleep inf"))
    podman.log(name, "run")
    podman.call("restart", "--time", "0", name)
    podman.until(name, ".State.Status", "running")
    podman.log(name, "run\nrun\nrun")
    podman.call("stop", "--time", "0", name)
    podman.call("start", name)
    assert podman.inspect(name, ".State.Status") == "running"


def test_restart_policy(podman, container):
    name = container("--restart", "on-failure:2", command=("false",))
    podman.until(name, ".RestartCount", "2")
    podman.until(name, ".State.Status", "exited")


def test_create_start_wait_rm(podman):
    name = podman.out("create", IMAGE, "sh", "-c", "exit 6")
    assert podman.inspect(name, ".State.Status") == "created"
    podman.call("start", name)
    assert podman.out("wait", name) == "6"
    podman.call("rm", name)
    podman.call("inspect", name, code=125)


def test_rm_force_of_a_running_container(podman, container):
    name = container()
    pid = podman.inspect(name, ".State.Pid")
    podman.call("rm", "--force", "--time", "0", name)
    assert not Path(f"/proc/{pid}").exists()


def test_init_container_starts_before_it_is_attached(podman):
    """podman init = the runtime's create without start."""
    name = podman.out("create", IMAGE, "echo", "late")
    podman.call("init", name)
    assert podman.inspect(name, ".State.Status") in ("initialized", "created")
    assert podman.out("start", "--attach", name) == "late"
    podman.call("rm", name)


def test_pod_of_two_containers(podman):
    podman.call("pod", "create", "--name", "pair", "--network", "none", "--hostname", "pairhost")
    podman.call(
        "run",
        "--detach",
        "--pod",
        "pair",
        "--name",
        "one",
        IMAGE,
        "sh",
        "-c",
        "nc -ll -p 4000 -e echo hello & sleep inf",
    )
    podman.call("run", "--detach", "--pod", "pair", "--name", "two", IMAGE)
    script = "for i in $(seq 100); do nc 127.0.0.1 4000 </dev/null && exit; sleep 0.1; done; exit 1"
    assert podman.out("exec", "two", "sh", "-c", script) == "hello"  # one network for both
    assert (
        podman.out("exec", "one", "hostname") == podman.out("exec", "two", "hostname") == "pairhost"
    )
    podman.call("pod", "pause", "pair")
    assert (
        podman.inspect("one", ".State.Status") == podman.inspect("two", ".State.Status") == "paused"
    )
    podman.call("pod", "unpause", "pair")
    podman.call("pod", "stop", "--time", "0", "pair")
    podman.call("pod", "start", "pair")
    assert podman.inspect("two", ".State.Status") == "running"
    podman.call("pod", "rm", "--force", "--time", "0", "pair")
    assert podman.out("ps", "--all", "--quiet") == ""


def test_read_only(podman):
    script = "touch /x; touch /bin/x; touch /tmp/x && echo tmp"
    done = podman.call("run", "--rm", "--read-only", IMAGE, "sh", "-c", script)
    assert done.stderr.count("Read-only file system") == 2
    assert done.stdout == "tmp\n"


def test_user(podman):
    assert run(podman, "--user", "1000:1001", IMAGE, "sh", "-c", "id -u; id -g") == "1000\n1001"
    assert run(podman, "--user", "user", IMAGE, "sh", "-c", "id -un; echo $HOME") == "user\n/home"
    assert run(podman, "--user", "2147483647", IMAGE, "id", "-u") == "2147483647"
    groups = run(podman, "--user", "1000", "--group-add", "77", IMAGE, "id", "-G").split()
    assert "77" in groups and "0" not in groups


def test_user_can_write_to_its_output(podman):
    """decisions 23: fds 0-2 belong to the container's user."""
    assert run(podman, "--user", "1000", IMAGE, "sh", "-c", "echo own > /dev/stdout") == "own"


def capabilities(status: str) -> dict[str, int]:
    return {name: int(value, 16) for name, value in re.findall(r"Cap(\w+):\s+(\w+)", status)}


def test_cap_drop(podman):
    sets = capabilities(run(podman, "--cap-drop", "ALL", IMAGE, "cat", "/proc/self/status"))
    assert sets == {"Inh": 0, "Prm": 0, "Eff": 0, "Bnd": 0, "Amb": 0}
    script = (
        "--cap-drop",
        "ALL",
        "--cap-add",
        "NET_BIND_SERVICE",
        IMAGE,
        "cat",
        "/proc/self/status",
    )
    sets = capabilities(run(podman, *script))
    assert sets["Eff"] == sets["Bnd"] == 1 << 10


def cgroup_value(pid: str, controller: str, v1_name: str, v2_name: str) -> str:
    """Read a limit as the kernel knows it, from the cgroup that /proc says the process is in."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return Path(f"/sys/fs/cgroup/{controller}{path}/{v1_name}").read_text().strip()
    path = Path(f"/proc/{pid}/cgroup").read_text().strip().rpartition(":")[2]
    return Path(f"/sys/fs/cgroup{path}/{v2_name}").read_text().strip()


def test_memory(podman, container):
    name = container("--memory", "64m")
    pid = podman.inspect(name, ".State.Pid")
    assert cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)


def test_out_of_memory_kills(podman, container):
    """`.State.OOMKilled` is left out: conmon 2.1.6 does not see the event on hybrid hosts."""
    greedy = ("sh", "-c", "x=$(head -c 64m /dev/zero | tr '\\0' x)")
    name = container("--memory", "16m", "--memory-swap", "16m", command=greedy)
    podman.until(name, ".State.Status", "exited")
    assert podman.inspect(name, ".State.ExitCode") == "137"


def test_pids_limit(podman, container):
    name = container("--pids-limit", "7")
    pid = podman.inspect(name, ".State.Pid")
    assert cgroup_value(pid, "pids", "pids.max", "pids.max") == "7"
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 100 & done"
    assert "can't fork" in podman.call("exec", name, "sh", "-c", script, code=2).stderr


def test_cpu_limits(podman, container):
    name = container("--cpu-shares", "512", "--cpu-quota", "50000", "--cpu-period", "100000")
    pid = podman.inspect(name, ".State.Pid")
    quota = cgroup_value(pid, "cpu", "cpu.cfs_quota_us", "cpu.max")
    assert quota in ("50000", "50000 100000")


def test_cgroup_is_where_podman_asked(podman, container):
    """podman reads the cgroup itself, so it must be exactly at cgroupsPath (engines 3)."""
    name = container()
    words = podman.out("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", name)
    assert words == f"{name} 1"
    assert "sleep inf" in podman.out("top", name, "args")


def test_volumes(podman, tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "given").write_text("from the host")
    script = "cat /data/given; echo back > /data/made; touch /fixed/x"
    done = podman.call(
        "run",
        "--rm",
        "--volume",
        f"{tmp_path}:/data",
        "--volume",
        f"{tmp_path}:/fixed:ro",
        IMAGE,
        "sh",
        "-c",
        script,
        code=1,
    )
    assert done.stdout == "from the host"
    assert "Read-only file system" in done.stderr
    assert (tmp_path / "made").read_text() == "back\n"


def test_tmpfs_and_shm(podman):
    script = "mount | grep -E ' /scratch | /dev/shm ' | sort"
    lines = run(
        podman, "--tmpfs", "/scratch:size=1m,noexec", "--shm-size", "2m", IMAGE, "sh", "-c", script
    )
    shm, scratch = lines.split("\n")
    assert "size=2048k" in shm
    assert "size=1024k" in scratch and "noexec" in scratch


def test_sysctl_ulimit_hostname(podman):
    script = "cat /proc/sys/kernel/msgmax; grep files /proc/self/limits; hostname"
    flags = (
        "--sysctl",
        "kernel.msgmax=4097",
        "--ulimit",
        "nofile=333:444",
        "--ulimit",
        "nproc=100:100",
        "--hostname",
        "named",
    )
    message, limit, name = run(podman, *flags, IMAGE, "sh", "-c", script).split("\n")
    assert (message, limit.split()[3:5], name) == ("4097", ["333", "444"], "named")


def test_devices(podman):
    script = "cd /dev && ls null zero full random urandom tty >/dev/null && stat -c %t:%T mine"
    assert run(podman, "--device", "/dev/zero:/dev/mine", IMAGE, "sh", "-c", script) == "1:5"


def test_privileged(podman):
    sets = capabilities(run(podman, "--privileged", IMAGE, "cat", "/proc/self/status"))
    own = capabilities(Path("/proc/self/status").read_text())
    assert sets["Eff"] == own["Bnd"]


def test_host_namespaces(podman):
    script = ("--pid", "host", "--network", "host", "--ipc", "host", "--uts", "host", IMAGE)
    kinds = ("pid", "net", "ipc", "uts")
    links = run(
        podman,
        *script,
        "sh",
        "-c",
        f"for n in {' '.join(kinds)}; do readlink /proc/self/ns/$n; done",
    )
    assert links.split("\n") == [os.readlink(f"/proc/self/ns/{n}") for n in kinds]


def test_no_new_privileges_and_seccomp(podman):
    status = run(podman, "--security-opt", "no-new-privileges", IMAGE, "cat", "/proc/self/status")
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)


def test_preserve_fds(podman):
    words = podman.command(
        "run", "--rm", "--preserve-fds", "1", IMAGE, "sh", "-c", "echo three >&3"
    )
    through_shell = ["sh", "-c", 'exec 3>&1 >/dev/null; exec "$@"', "sh", *words]
    done = subprocess.run(through_shell, env=podman.environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "three\n", "")


def test_healthcheck(podman, container):
    name = container("--health-cmd", "test -e /tmp/well", "--health-interval", "disable")
    podman.call("healthcheck", "run", name, code=1)
    podman.call("exec", name, "touch", "/tmp/well")
    podman.call("healthcheck", "run", name)


def test_copy_in_and_out(podman, container, tmp_path):
    name = container()
    (tmp_path / "in").write_text("content")
    podman.call("cp", str(tmp_path / "in"), f"{name}:/tmp/in")
    assert podman.out("exec", name, "cat", "/tmp/in") == "content"
    podman.call("cp", f"{name}:/tmp/in", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "content"


def test_build_runs_its_steps(podman, tmp_path):
    """buildah drives the runtime itself, and polls `state` (engines 3)."""
    (tmp_path / "Containerfile").write_text(
        f"FROM {IMAGE}\nRUN echo built > /made\nCMD cat /made\n"
    )
    podman.call("build", "--network", "none", "--tag", "localhost/built", str(tmp_path))
    try:
        assert run(podman, "localhost/built") == "built"
    finally:
        podman.call("rmi", "localhost/built")
