"""What a container sees of us while we enter it: a process that is as good as it gets at looking finds nothing.

It has CAP_SYS_PTRACE in the user namespace of the host, so no dumpable flag keeps it out: only what is not there is safe.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import host
from support.box import Box, Container
from support.spec import DOCKER_CAPS, add_mount, fresh_spec, namespace, set_caps, user_namespace

ROUNDS = int(os.environ.get("SKERRY_ROUNDS", "25"))


@pytest.fixture(scope="session")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("witness") / "witness"
    source = Path(__file__).parents[1] / "support/witness.c"
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Werror", "-o", program, source], check=True)
    return program


def watching(box: Box, witness: Path, spec: dict) -> Container:
    """Start a container that looks at its neighbours for a marker file of the host."""
    marker = box.dir / "marker"
    marker.write_text("")
    for directory in (box.dir, box.dir.parent):
        directory.chmod(0o755)
    spec["process"]["args"] = ["/bin/witness", str(marker)]
    spec["process"]["noNewPrivileges"] = False
    set_caps(spec, *DOCKER_CAPS, "CAP_SYS_PTRACE")
    add_mount(spec, "/tmp", "tmpfs", "tmpfs")
    where = box.bundle(spec)
    shutil.copy(witness, where / "rootfs/bin/witness")
    return box.start(None, bundle=where)


def findings(container: Container) -> list[str]:
    container.exec("touch", "/tmp/stop").ok()
    lines = container.stream.rest().splitlines()
    assert lines.pop() == "end"
    return lines


@pytest.mark.slow
def test_exec_shows_nothing_of_the_host(box: Box, witness: Path) -> None:
    """V02, V12."""
    container = watching(box, witness, fresh_spec())
    for _ in range(ROUNDS):
        container.exec("true").ok()
    found = findings(container)
    assert [line for line in found if line.startswith("saw")], "it saw none of the processes: nothing was tested"
    assert not [line for line in found if line.startswith(("reached", "wrote"))], found


@pytest.mark.skerry_only("V03: the only program of ours in there is a sealed copy")
@pytest.mark.slow
def test_exec_runs_no_program_of_the_host(box: Box, witness: Path) -> None:
    """V03."""
    container = watching(box, witness, fresh_spec())
    for _ in range(ROUNDS):
        container.exec("true").ok()
    programs = {line.split(" ", 2)[2] for line in findings(container) if line.startswith("runs")}
    assert programs <= {"/memfd:skerry-init (deleted)", "/bin/busybox"}
    assert "/memfd:skerry-init (deleted)" in programs, "it saw none of ours: nothing was tested"


@pytest.mark.skerry_only("security 4: no interpreter ever runs in a container")
def test_no_interpreter_in_a_container(box: Box) -> None:
    """Created, running, entered: whatever is in another mount namespace than ours maps no Python."""
    ours = os.readlink("/proc/self/ns/mnt")
    container = box.create(fresh_spec("probe", "park"))
    running = box.parked(fresh_spec())
    assert running.exec("probe", "park", flags=("--detach",), stdin=subprocess.DEVNULL).code == 0
    inside = [pid for pid in host.descendants() if os.readlink(f"/proc/{pid}/ns/mnt") != ours]
    assert {container.pid, running.pid} < set(inside)
    for pid in inside:
        assert "python" not in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("user", [False, True])
def test_create_in_a_joined_pid_namespace_shows_nothing_of_the_host(box: Box, witness: Path, user: bool) -> None:
    """V02, V32, decisions 19, 20: neither the process that mounts proc, nor a handle on a procfs of the host."""
    spec = fresh_spec()
    if user:
        user_namespace(spec)
    container = watching(box, witness, spec)
    for _ in range(ROUNDS):
        member = fresh_spec("true")
        namespace(member, "pid", f"/proc/{container.pid}/ns/pid")
        member["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
        if user:
            user_namespace(member)
            namespace(member, "user", f"/proc/{container.pid}/ns/user")
        box.run(member).ok()
    found = findings(container)
    assert user or [line for line in found if line.startswith("saw")], "it saw none of the processes: nothing was tested"
    assert not [line for line in found if line.startswith("reached")], found
