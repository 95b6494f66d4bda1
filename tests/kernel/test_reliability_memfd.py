"""Where the kernel forbids executable memory files: skerry-init runs from a read-only clone of its file, or not at all."""

import errno
import os
import subprocess
from pathlib import Path

import pytest
from support import leaks
from support.box import Box
from support.plans import replace
from support.runtime import ENVIRONMENT
from support.spec import fresh_spec

from skerry import paths
from skerry.container import Container, open_store
from skerry.errors import InitError, KernelError
from skerry.linux import abi
from skerry.native import launch
from skerry.plan import installed
from skerry.plan.build import Plan

SYSCTL = Path("/proc/sys/vm/memfd_noexec")


def in_strict_namespace(box: Box, script: str) -> str:
    """Run a script in a pid namespace of its own, where vm.memfd_noexec is 2; `$skerry`, `$bundle` and `$id` are set."""
    if not SYSCTL.exists():
        pytest.skip("this kernel has no vm.memfd_noexec")
    setting = f"set -e; echo 2 > {SYSCTL}; skerry='{box.runtime.binary} --root {box.runtime.root}'"
    line = ["unshare", "--pid", "--fork", "--mount", "--mount-proc", "--kill-child", "sh", "-c", f"{setting}; {script}"]
    environment = {**ENVIRONMENT, "bundle": str(box.bundle(fresh_spec("probe", "park"))), "id": box.new_id()}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, timeout=30)
    assert done.returncode == 0, done
    return done.stdout


def test_a_container_is_made_all_the_same(box: Box) -> None:
    """decisions 11: create, start, exec, delete; the sysctl is that of a pid namespace of ours."""
    out = in_strict_namespace(
        box,
        "$skerry create --bundle $bundle $id > /dev/null; $skerry start $id;"
        "$skerry exec $id sh -c 'echo up'; $skerry delete --force $id",
    )
    assert out == "up\n"
    assert leaks.settle(box.leftovers) == []


def test_its_file_cannot_be_written(box: Box) -> None:
    """V03, CVE-2019-5736: what /proc/<pid>/exe of a created container names is no path of the host, and read-only."""
    before = Path(paths.init_path()).read_bytes()
    out = in_strict_namespace(
        box,
        "$skerry create --bundle $bundle $id > /dev/null; pid=$($skerry ps --format json $id | tr -d '[]');"
        "readlink /proc/$pid/exe; (echo x > /proc/$pid/exe) 2>&1 || true;"
        # Held until nobody executes it any more, so that it is no longer busy.
        "exec 9< /proc/$pid/exe; $skerry delete --force $id; (echo x > /proc/self/fd/9) 2>&1 || true",
    )
    name, while_it_runs, afterwards = out.splitlines()
    assert name == "/"
    assert while_it_runs.endswith("Read-only file system") and afterwards.endswith("Read-only file system")
    assert Path(paths.init_path()).read_bytes() == before


@pytest.mark.parametrize("index", [0, 1, 2])
def test_where_the_clone_fails_too(box: Box, monkeypatch: pytest.MonkeyPatch, index: int) -> None:
    """decisions 11: refuse, naming the sysctl; never go on from a path that could be written."""

    def refuse(*_: object) -> int:
        raise KernelError("make", "memory file skerry-init", errno.EACCES)

    build = installed.build

    def broken(*args: object, **keywords: object) -> Plan:
        plan = build(*args, **keywords)  # type: ignore[arg-type]
        replace(plan, index, "none")
        return plan

    monkeypatch.setattr(launch, "_spawn_sealed", refuse)
    monkeypatch.setattr(installed, "build", broken)
    monkeypatch.setitem(abi.SYSCALLS, "none", (4000, 4000))
    null = os.open("/dev/null", os.O_RDWR)
    store = open_store(str(box.runtime.root))
    with pytest.raises(InitError, match="vm.memfd_noexec is 2") as caught:
        Container.create(store, box.new_id(), bundle=str(box.bundle(fresh_spec())), stdio=(null, null, null))
    os.close(null)
    assert str(caught.value).startswith("cannot start skerry-init from a read-only clone: ")
    assert caught.value.errno == errno.ENOSYS
    assert leaks.settle(box.leftovers) == []
