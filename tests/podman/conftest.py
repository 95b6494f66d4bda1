"""Fixtures: one private podman for the run, containers that are removed, a look at what is left."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from podman_driver import IMAGE, Podman


def cgroups(ids: set[str]) -> set[str]:
    """The cgroups of these containers and pods, and of no others: podman may be in use besides."""
    # Not find(1), which fails when somebody removes a directory under it.
    walk = os.walk("/sys/fs/cgroup")
    found = [f"{top}/{name}" for top, names, _ in walk if "libpod_parent" in top for name in names]
    return {path for path in found if any(id in path for id in ids)}


def processes_of(top: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(top) in words:
            found.append(f"{entry.name} {words.decode(errors='replace')}")
    return found


@pytest.fixture(scope="session")
def podman(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("podman drives the runtime as root here")
    for program in ("podman", "conmon"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    top = tmp_path_factory.mktemp("podman")
    podman = Podman(top)
    make_image(podman)
    yield podman

    podman.call("pod", "rm", "--all", "--force", "--time", "0")
    podman.call("rm", "--all", "--force", "--time", "0")
    assert not list((top / "state").glob("[0-9a-f]*")), "the runtime still knows containers"
    wait_for_nothing(lambda: processes_of(top))
    assert not remove_pods(cgroups(podman.ids())), "cgroups are left"
    assert str(top) not in Path("/proc/self/mountinfo").read_text(), "mounts are left"
    shutil.rmtree(top)


def remove_pods(left: set[str]) -> set[str]:
    """Remove our pods' cgroups where podman did not; return what else was left.

    podman makes and removes them in the hierarchies it knows. In the others the runtime makes them
    as parents of the first container's cgroup, and cannot take them away with it while the pod has
    other containers (decisions 31). `libpod_parent` itself is podman's, and shared by all that use
    podman on this machine.
    """
    pods = {path for path in left if "/libpod-" not in path}
    for path in sorted(pods, reverse=True):
        os.rmdir(path)
    return left - pods


def wait_for_nothing(question) -> None:
    """conmon leaves a moment after its container, and there is nothing to wait on."""
    deadline = time.monotonic() + 10
    while left := question():
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def make_image(podman: Podman) -> None:
    busybox = next((p for p in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(p)), None)
    if not busybox:
        pytest.skip("busybox is not installed")
    root = podman.top / "rootfs"
    for directory in ("bin", "etc", "tmp", "home"):
        (root / directory).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    subprocess.run([root / "bin/busybox", "--install", "-s", root / "bin"], check=True)
    for link in (root / "bin").iterdir():
        if link.is_symlink():
            link.unlink()
            link.symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")
    (root / "bin/unreadable").write_text("no program")
    archive = podman.top / "image.tar"
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    podman.call("import", "--quiet", "--change", 'CMD ["/bin/sleep", "inf"]', str(archive), IMAGE)


@pytest.fixture
def container(podman, request):
    """Start containers in the background: `container(*flags, command=...) -> name`."""
    made = []

    def start(*flags: str, command: tuple[str, ...] = ("sleep", "inf")) -> str:
        name = f"{request.node.name.replace('[', '-').strip(']')}-{len(made)}"
        made.append(name)
        podman.call("run", "--detach", "--name", name, *flags, IMAGE, *command)
        return name

    yield start
    for name in made:
        podman.call("rm", "--force", "--time", "0", name)
