"""What docker's users do, done through dockerd, containerd and its runc shim to the runtime under test (engines 3)."""

import re
import time

import pytest
from docker_driver import IMAGE
from support.host import cgroup_mounts

WAITS_FOR_SIGNALS = """
trap 'echo got TERM; exit 7' TERM
trap 'echo got USR1' USR1
echo ready
while :; do sleep 0.1; done
"""
needs_v1 = pytest.mark.skipif("memory" not in cgroup_mounts(), reason="no memory controller of cgroup v1")


def follow(docker, name: str, text: str) -> None:
    docker.until(lambda: text in docker.out("logs", name))


def test_docker_uses_the_runtime_under_test(docker, container):
    name = container()
    assert docker.inspect(name, ".HostConfig.Runtime") == docker.name
    assert docker.inspect(name, ".Id") in docker.runtime_ids()


def test_run_passes_output_and_exit_code(docker):
    done = docker.call("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 3", code=3)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_run_passes_input(docker):
    assert docker.run("-i", IMAGE, "cat", stdin=None, input="some\ninput\n") == "some\ninput"


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [
        ("nowhere", 127, "executable file not found in \\$PATH"),
        ("/bin/nowhere", 127, "no such file or directory"),
        ("/bin/unreadable", 126, "permission denied"),
        ("/etc", 126, "permission denied|is a directory"),
    ],
)
def test_program_that_cannot_be_run_has_dockers_exit_codes(docker, program, code, words):
    """lifecycle 67; docker makes 126 and 127 of the runtime's words."""
    done = docker.call("run", "--rm", IMAGE, program, code=code)
    assert re.search(words, done.stderr, re.IGNORECASE)


def test_run_on_a_terminal(docker):
    with docker.terminal("run", "--rm", "-it", IMAGE, "sh", rows=33, columns=101) as terminal:
        terminal.type("tty; echo $((6*7))\r")
        assert "/dev/pts/0" in terminal.expect("42")
        # docker tells the size when the program may run already
        terminal.type("while [ \"$(stty size)\" != '33 101' ]; do sleep 0.1; done; echo first'size'\r")
        terminal.expect("firstsize")
        terminal.resize(44, 120)
        terminal.type("while [ \"$(stty size)\" != '44 120' ]; do sleep 0.1; done; echo new'size'\r")
        terminal.expect("newsize")
        terminal.type("exit 5\r")
        assert terminal.wait() == 5


def test_exec(docker, container):
    name = container("--env", "A=1")
    assert docker.out("exec", "--user", "user", "--env", "B=2", name, "sh", "-c", "echo $A$B; id -u") == "12\n1000"
    docker.call("exec", name, "sh", "-c", "exit 9", code=9)
    assert docker.out("exec", "-i", name, "cat", stdin=None, input="typed") == "typed"
    assert "no such file or directory" in docker.call("exec", "--workdir", "/nowhere", name, "pwd", code=126).stdout
    docker.call("exec", "--detach", name, "sleep", "12345")
    assert "sleep 12345" in docker.out("top", name, "-eo", "pid,args")


def test_exec_on_a_terminal(docker, container):
    with docker.terminal("exec", "-it", container(), "sh") as terminal:
        terminal.type("tty; echo $((6*7))\r")
        assert "/dev/pts/0" in terminal.expect("42")
        terminal.type("exit 6\r")
        assert terminal.wait() == 6


def test_default_bridge(docker, container):
    """lifecycle 129, 130: libnetwork's prestart hook moves the interface in."""
    name = container()
    address = docker.inspect(name, ".NetworkSettings.IPAddress")
    assert f"inet {address}/" in docker.out("exec", name, "ip", "addr", "show", "eth0")
    assert "default via" in docker.run(IMAGE, "ip", "route")


def test_namespaces_of_another_container(docker, container):
    name = container("--hostname", "first", "--ipc", "shareable")
    shared = [f"--{kind}=container:{name}" for kind in ("network", "pid", "ipc")]
    lines = docker.run(*shared, IMAGE, "sh", "-c", "hostname; ps").splitlines()
    assert lines[0] == "first" and any("sleep inf" in line for line in lines)


def test_stop_and_start_again(docker, container):
    name = container(command=("sh", "-c", WAITS_FOR_SIGNALS))
    follow(docker, name, "ready")
    docker.call("stop", name)
    assert docker.inspect(name, ".State.ExitCode") == "7"
    assert "got TERM" in docker.out("logs", name)
    docker.call("start", name)
    docker.until(lambda: docker.out("logs", name).count("ready") == 2)
    docker.call("kill", "--signal", "USR1", name)
    follow(docker, name, "got USR1")
    docker.call("restart", name)
    docker.call("kill", name)
    assert docker.out("wait", name) == "137"


def test_pause(docker, container):
    script = "while :; do echo tick; sleep 0.05; done"
    name = container(command=("sh", "-c", script))
    follow(docker, name, "tick")
    docker.call("pause", name)
    assert docker.inspect(name, ".State.Status") == "paused"
    seen = docker.out("logs", name).count("tick")
    time.sleep(0.3)
    assert docker.out("logs", name).count("tick") <= seen + 1
    docker.call("unpause", name)
    docker.until(lambda: docker.out("logs", name).count("tick") > seen + 1)


def test_restart_policy(docker, container):
    name = container("--restart", "on-failure:2", command=("sh", "-c", "echo run; exit 4"))
    state = ".RestartCount}} {{.State.Status"
    docker.until(lambda: docker.inspect(name, state) == "2 exited")
    assert docker.inspect(name, ".State.ExitCode") == "4"
    assert docker.out("logs", name).splitlines() == ["run"] * 3


@needs_v1
def test_limits_and_update(docker, container):
    name = container("--memory", "64m", "--pids-limit", "50", "--cpu-shares", "300")
    files = "memory/memory.limit_in_bytes", "pids/pids.max", "cpu/cpu.shares"
    read = ["exec", name, "cat", *(f"/sys/fs/cgroup/{file}" for file in files)]
    assert docker.out(*read).split() == [str(64 << 20), "50", "300"]
    docker.call("update", "--memory", "96m", "--memory-swap", "200m", "--pids-limit", "40", "--cpu-shares", "500", name)
    assert docker.out(*read).split() == [str(96 << 20), "40", "500"]
    assert docker.out("stats", "--no-stream", "--format", "{{.PIDs}}", name) == "1"


@needs_v1
def test_out_of_memory_is_told(docker):
    docker.call("run", "--name", "oom", "--memory", "20m", IMAGE, "sh", "-c", "tail /dev/zero", code=137)
    docker.until(lambda: docker.inspect("oom", ".State.OOMKilled") == "true")
    docker.call("rm", "oom")


def test_security_options(docker):
    status = "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status"
    options = ("--cap-drop", "ALL", "--cap-add", "KILL", "--security-opt", "no-new-privileges", "--user", "1000:5")
    found = dict(line.split(":\t") for line in docker.run(*options, IMAGE, "sh", "-c", status).splitlines())
    assert found == {"CapEff": "0" * 16, "CapBnd": f"{1 << 5:016x}", "NoNewPrivs": "1", "Seccomp": "2"}


def test_read_only_root_and_mounts(docker, tmp_path):
    (tmp_path / "file").write_text("content\n")
    script = "touch /x; touch /vol/x; touch /tmp/y && cat /vol/file"
    options = ("--read-only", "--tmpfs", "/tmp:size=1m", "--volume", f"{tmp_path}:/vol:ro")
    done = docker.call("run", "--rm", *options, IMAGE, "sh", "-c", script)
    assert done.stdout == "content\n"
    assert done.stderr.count("Read-only file system") == 2


def test_init_and_devices(docker):
    assert docker.run("--init", IMAGE, "cat", "/proc/1/comm") == "docker-init"
    options = ("--device", "/dev/fuse", "--sysctl", "net.ipv4.ip_forward=1")
    assert docker.run(*options, IMAGE, "sh", "-c", "dd if=/dev/null of=/dev/fuse 2>&1 | grep -c denied; cat /proc/sys/net/ipv4/ip_forward") == "0\n1"


def test_copy_in_and_out(docker, container, tmp_path):
    name = container()
    docker.call("exec", name, "sh", "-c", "echo inside > /tmp/a")
    docker.call("cp", f"{name}:/tmp/a", str(tmp_path / "a"))
    docker.call("cp", str(tmp_path / "a"), f"{name}:/tmp/b")
    assert docker.out("exec", name, "cat", "/tmp/b") == (tmp_path / "a").read_text().strip() == "inside"
