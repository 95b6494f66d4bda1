"""update of devices on cgroup v2, and updates that fail half way: all of it, or nothing."""

import json
import os
from pathlib import Path

import pytest
from support import host
from support.box import Box, Container
from support.bpf import BpfLibrary
from support.cgroups import HugetlbAsBefore, in_pure_v2
from support.runtime import Result
from support.spec import DOCKER_CAPS, fresh_spec, set_caps

from skerry.native.cgroup import devices

KMSG = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "w"}
NONE = {"allow": False, "access": "rwm"}


def with_nodes(*rules: dict) -> dict:
    spec = fresh_spec("probe", "park")
    set_caps(spec, *DOCKER_CAPS)
    spec["linux"]["resources"]["devices"] = [NONE, *rules]
    return spec


def update(container: Container, resources: dict) -> Result:
    return container.box.runtime.call("update", "-r", "-", container.id, stdin=json.dumps(resources).encode())


def opens_kmsg(container: Container) -> bool:
    """Make a node of a device that is in no default list, and open it; for writing, which takes no capability."""
    answer = container.exec("sh", "-c", "rm -f /dev/k; mknod /dev/k c 1 11 && probe open /dev/k w").ok().out
    assert answer in ("ok\n", "EPERM\n")
    return answer == "ok\n"


@in_pure_v2
def test_devices_of_a_running_container(box: Box) -> None:
    """An update of devices is never ignored: what was forbidden is allowed, and forbidden again; the defaults stay."""
    container = box.parked(with_nodes({"allow": True, "type": "c", "major": 1, "minor": 11, "access": "m"}))
    assert not opens_kmsg(container)
    update(container, {"devices": [NONE, {**KMSG, "access": "rwm"}]}).ok()
    assert opens_kmsg(container)
    update(container, {"devices": [NONE, {**KMSG, "access": "m"}]}).ok()
    assert not opens_kmsg(container)
    assert container.exec("probe", "open", "/dev/null", "rw").out == "ok\n"
    box.runtime.spawn("delete", "--force", container.id).finish_reaping().ok()


@in_pure_v2
def test_an_update_without_devices_leaves_the_filter(box: Box) -> None:
    """V07: also after update of another limit."""
    container = box.parked(with_nodes({"allow": True, "type": "c", "major": 1, "minor": 11, "access": "m"}))
    with HugetlbAsBefore(Path("/sys/fs/cgroup")):
        update(container, {"hugepageLimits": [{"pageSize": "2MB", "limit": 2 << 20}]}).ok()
        assert not opens_kmsg(container)
        box.runtime.spawn("delete", "--force", container.id).finish_reaping().ok()


@in_pure_v2
def test_a_second_filter_of_somebody_else(box: Box) -> None:
    """Replacing one of two would leave the other in force: refused with the pointer, and nothing is changed."""
    container = box.parked(with_nodes())
    cgroup = next(Path("/sys/fs/cgroup").rglob(container.id))
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    library = BpfLibrary()
    library.attach(fd, library.load(devices.program(devices.rules({"devices": [NONE]}, ""))))
    result = update(container, {"devices": [NONE, KMSG]})
    assert result.code == 1 and result.message.startswith("/devices: cannot find the device filter in force"), result
    assert "another program has attached one" in result.message
    os.close(fd)
    box.runtime.spawn("delete", "--force", container.id).finish_reaping().ok()


@pytest.mark.parametrize(
    "resources",
    [
        {"pids": {"limit": 99}, "memory": {"limit": 1}},
        {"pids": {"limit": 99}, "cpu": {"cpus": "zz"}},
        {"pids": {"limit": 99}, "cpu": {"period": 1}},
    ],
    ids=["memory", "cpuset", "period"],
)
def test_an_update_that_fails_half_way(box: Box, resources: dict) -> None:
    """security 6: restores values; the error names the one at fault."""
    if host.is_v2():
        pytest.skip("needs the v1 controllers")
    spec = fresh_spec("probe", "park")
    spec["linux"]["resources"]["pids"] = {"limit": 50}
    container = box.parked(spec)
    limit = host.cgroup_of(container.pid, "pids") / "pids.max"
    result = update(container, resources)
    assert result.code == 1 and "/" in result.message, result
    assert limit.read_text() == "50\n"
    assert container.status == "running"
