"""Fixtures: one private docker for the run, containers that are removed, a look at what is left."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from docker_driver import CLIENT, IMAGE, Docker
from support.rootfs import build_template


@pytest.fixture(scope="session")
def docker(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("dockerd drives the runtime as root here")
    for program in (CLIENT, "dockerd", "containerd", "iptables", "unshare"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    top = tmp_path_factory.mktemp("docker")
    docker = Docker(top)
    try:
        make_image(docker)
        yield docker
    finally:
        docker.stop()
    assert not docker.runtime_ids(), "the runtime still knows containers"
    docker_cgroups = cgroups(docker.parent[1:])
    for path in sorted(docker_cgroups, reverse=True):
        os.rmdir(path)
    assert not [path for path in docker_cgroups if not path.endswith(docker.parent)], "cgroups are left"
    assert str(top) not in Path("/proc/self/mountinfo").read_text(), "mounts are left"
    shutil.rmtree(top)


def cgroups(name: str) -> list[str]:
    """The parent, which docker itself may have made and leaves, and what is below it."""
    return [top for top, _, _ in os.walk("/sys/fs/cgroup") if f"/{name}" in top]


def make_image(docker: Docker) -> None:
    root = build_template(docker.top)
    (root / "bin/unreadable").write_text("no program")
    archive = docker.top / "image.tar"
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    docker.call("import", "--change", 'CMD ["/bin/sleep", "inf"]', str(archive), IMAGE)


@pytest.fixture
def container(docker, request):
    """Start containers in the background: `container(*flags, command=...) -> name`."""
    made = []

    def start(*flags: str, command: tuple[str, ...] = ("sleep", "inf")) -> str:
        name = f"{request.node.name.replace('[', '-').strip(']')}-{len(made)}"
        made.append(name)
        docker.call("run", "--detach", "--name", name, *flags, IMAGE, *command)
        return name

    yield start
    for name in made:
        docker.call("rm", "--force", name)
