"""What a tenant, or a guest, must not reach of the host: security 3.5."""

import ctypes
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.spec import fresh_spec
from support.vm_box import VmBox

CRI = {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": "pod"}
FOREIGN = (
    "io.katacontainers.config.hypervisor.path", "io.katacontainers.config.hypervisor.kernel",
    "io.katacontainers.config.hypervisor.virtio_fs_daemon", "io.katacontainers.config_path",
)  # fmt: skip
VARIABLES = (
    "QEMU", "SKERRY_HYPERVISOR", "SKERRY_KERNEL", "SKERRY_INITRD", "SKERRY_CONFIG", "KATA_CONF_FILE", "LD_PRELOAD_TRAP",
    "PYTHONSTARTUP", "PYTHONPATH", "PYTHONHOME",
)  # fmt: skip
IN_OPEN, IN_ACCESS, IN_NONBLOCK = 0x20, 0x1, 0o4000


@pytest.fixture
def trap(box: VmBox) -> Iterator["Trap"]:
    found = Trap(box.dir / "traps")
    yield found
    os.close(found.fd)


class Trap:
    """A directory with programs and files that nobody may as much as open."""

    def __init__(self, where: Path) -> None:
        where.mkdir()
        for name in ("qemu-system-x86_64", "virtiofsd", "mkfs.erofs", "mkfs.ext4", "file"):
            (where / name).write_text(f"#!/bin/sh\ntouch {where}/sprung\n")
            (where / name).chmod(0o755)
        self.where = where
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(IN_NONBLOCK)
        assert libc.inotify_add_watch(self.fd, os.fsencode(where), IN_OPEN | IN_ACCESS) >= 0

    def is_sprung(self) -> bool:
        try:
            return bool(os.read(self.fd, 65536)) or (self.where / "sprung").exists()
        except BlockingIOError:
            return False


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def open_files(pid: int) -> list[str]:
    return [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]


@pytest.mark.parametrize("name", ["kernel", "initrd", "hypervisor", "memory", "vcpus", "template", "profile"])
def test_security_v46_annotations_of_a_pod(box: VmBox, trap: Trap, name: str) -> None:
    """security V46: refused by name, and what they name is neither opened nor executed."""
    spec = fresh_spec()
    spec["annotations"] = {**CRI, f"run.skerry.vm.{name}": str(trap.where / "file")}
    box.refuses(spec, f"run.skerry.vm.{name}", "the administrator has not listed it", id="pod")
    assert not trap.is_sprung()
    (trap.where / "file").read_text()
    assert trap.is_sprung()  # it works


def test_security_v46_names_of_others_and_the_environment(box: VmBox, trap: Trap) -> None:
    """security V46: they are just words."""
    spec = fresh_spec("true")
    spec["annotations"] = dict.fromkeys(FOREIGN, str(trap.where / "file"))
    surroundings = {**dict.fromkeys(VARIABLES, str(trap.where / "file")), "PATH": f"{trap.where}:{os.environ['PATH']}"}
    spec["process"]["env"] += [f"{name}={value}" for name, value in surroundings.items() if name != "PATH"]
    assert box.run(spec, env=surroundings).code == 0
    assert not trap.is_sprung()


def test_security_v49_a_rootfs_without_content(box: VmBox) -> None:
    """security V49: it is a directory with nothing in it, and no disk of the host is attached for it."""
    spec = fresh_spec("probe", "park")
    spec["root"]["path"] = "empty"
    bundle = box.bundle(spec)
    (bundle / "empty").mkdir()
    box.refuses(spec, "probe", bundle=bundle)
    owner = box.parked(fresh_spec())
    qemu = box.pid_of(owner.id, "qemu")
    box.try_create(spec, "--host", owner.id, bundle=bundle).failed()
    assert b"/dev/" not in Path(f"/proc/{qemu}/cmdline").read_bytes()
    assert not [path for path in open_files(qemu) if path.startswith("/dev/") and path not in ("/dev/null", "/dev/kvm")]


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero"])
def test_security_v49_a_rootfs_that_is_a_device(box: VmBox, path: str) -> None:
    """security V49"""
    spec = fresh_spec()
    spec["root"]["path"] = path
    box.refuses(spec, "/root/path", f"{path} is not a directory")


def test_security_v42_v43_root_of_a_guest_changes_nothing_of_the_host(box: VmBox) -> None:
    """security V42, V43: neither the rootfs nor what machines are started from; the next VM has them as they were."""
    image = json.loads(box.runtime.call("image", "list", "--format", "json").out or "[]")
    files = [Path(row[key]) for row in image for key in ("kernel", "initramfs") if key in row]
    spec = fresh_spec(
        "sh", "-c", "exec 2>&1; mknod /dev/sda b 8 0; dd if=/dev/zero of=/dev/sda bs=4096 count=1 && echo written; echo x > /etc/passwd; probe park"
    )
    spec["root"]["readonly"] = False
    for caps in spec["process"]["capabilities"].values():
        caps += ["CAP_MKNOD", "CAP_SYS_ADMIN"]
    bundle = box.bundle(spec)
    files += [p for p in (bundle / "rootfs").rglob("*") if p.is_file() and not p.is_symlink()]
    before = [digest(path) for path in files]
    container = box.start(spec, bundle=bundle)
    said = container.stream.until("ready")
    assert "written" not in said and "Operation not permitted" in said
    container.delete("--force").ok()
    assert [digest(path) for path in files] == before
    assert box.run(fresh_spec("cat", "/etc/passwd"), bundle=None).ok().out == (bundle / "rootfs/etc/passwd").read_text()
