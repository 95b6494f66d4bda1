"""Printed plans, kept as text to be reviewed.

A change of a recipe shows as a change of these files; whoever makes it reads the difference and says in the commit why it
is right. `pytest tests/golden --update` writes them anew. They are of a host that the test makes up, so that they are the
same everywhere.
"""

import re
from pathlib import Path

import pytest
from support.plans import exec_request, join, map_users, request, small_spec
from support.spec import DOCKER_CAPS, fresh_spec

from skerry.plan import create, helper, hold, keep, show, visit
from skerry.plan import join as exec_recipe
from skerry.plan.build import Plan
from skerry.plan.hooks import template
from skerry.plan.request import Request

HERE = Path(__file__).parent
NOTE = """\
# {title}
#
# How to read it. A process begins at the margin; below it are its steps, with the place in config.json that asked for
# them, and below those the operations: system calls, and the specials of plan/ops.py in capitals. `-> r3` keeps the result.
# A failure ends everything, unless the line says `or ENOENT` (go on) or `to a on ENOENT` (go on where `a:` stands).
# m1, m2 ... is memory that operations write and read. What the container's processes could abuse is in the order of the
# lines: see security 5.9 and tests/unit/test_plan_order.py before you move one.
"""
V1 = [("memory", "/sys/fs/cgroup/memory/box", "memory"), ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/box", "cpu,cpuacct"),
      ("systemd", "/sys/fs/cgroup/systemd/box", "name=systemd")]  # fmt: skip
STATE = {"ociVersion": "1.3.0", "id": "box", "status": "creating", "pid": 0, "bundle": "/bundle"}


class Filter:
    """What a compiler would make of a profile; its instructions are not for reading."""

    def __init__(self, *, listener: bool = False) -> None:
        self.flags, self.filter, self.listener = 8 if listener else 4, bytes(8 * 42), listener


def default() -> Request:
    """The spec that `skerry spec` and `runc spec` write, on cgroup v1"""
    return request(fresh_spec("sh"), cgroup_mounts=V1, kcore=True)


def default_v2() -> Request:
    """The same on cgroup v2, in a cgroup namespace, with a device filter"""
    spec = fresh_spec("sh")
    spec["linux"]["namespaces"].append({"type": "cgroup"})
    return request(spec, cgroup_version=2, cgroup_unified="/sys/fs/cgroup/box", device_program=bytes(8 * 20))


def user_namespace() -> Request:
    """A new user namespace: maps from outside, devices bound, a volume, a sysctl"""
    spec = small_spec()
    map_users(spec)
    spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    spec["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5, 20]}
    spec["mounts"].append({"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind", "rro", "noatime"]})
    return request(spec, sources={2: ("/srv", True)}, stdio_owner=(0, 1, 2))


def joined_namespaces() -> Request:
    """Network, ipc and user namespaces joined by path, as in a pod"""
    spec = small_spec()
    for kind in ("network", "ipc", "user"):
        join(spec, kind, f"/proc/42/ns/{kind}")
    spec["hostname"] = "box"
    return request(spec)


def joined_pid() -> Request:
    """A pid namespace joined by path: after the pivot, but its procfs before"""
    spec = small_spec()
    join(spec, "pid", "/proc/42/ns/pid")
    return request(spec)


def time_namespace() -> Request:
    """A time namespace with offsets"""
    spec = small_spec()
    spec["linux"]["namespaces"].append({"type": "time"})
    spec["linux"]["timeOffsets"] = {"monotonic": {"secs": 86400}}
    return request(spec)


def terminal() -> Request:
    """A terminal of 80 times 25, for user 1000"""
    spec = small_spec()
    spec["process"].update(terminal=True, consoleSize={"height": 25, "width": 80}, user={"uid": 1000, "gid": 1000})
    spec["mounts"].append({"destination": "/dev/pts", "type": "devpts", "options": ["newinstance", "ptmxmode=0666"]})
    return request(spec, console=True)


def seccomp_early() -> Request:
    """A seccomp filter without no_new_privs, with a listener; it must be loaded while privileged"""
    spec = small_spec()
    spec["process"]["capabilities"] = {kind: DOCKER_CAPS for kind in ("bounding", "effective", "permitted")}
    return request(spec, seccomp=Filter(listener=True))


def seccomp_late() -> Request:
    """A seccomp filter with no_new_privs: nearly the last step; no HOME in the environment"""
    spec = small_spec()
    spec["process"].update(noNewPrivileges=True, env=["PATH=/bin"], args=["sh", "-c", "true"])
    return request(spec, seccomp=Filter())


def hooks() -> Request:
    """Hooks that run inside, before the pivot and behind the gate"""
    spec = small_spec()
    spec["hooks"] = {
        "createContainer": [{"path": "/usr/bin/setup", "args": ["setup", "box"], "timeout": 5}],
        "startContainer": [{"path": "/bin/hook", "env": ["A=1"]}, {"path": "/bin/other"}],
    }
    states = {"createContainer": template(STATE), "startContainer": template({**STATE, "status": "created"})}
    return request(spec, hook_states=states)


def no_pivot() -> Request:
    """--no-pivot, with a root that mounts of the container shall leave"""
    spec = small_spec()
    spec["linux"]["rootfsPropagation"] = "rshared"
    return request(spec, no_pivot=True, full_mounts=["/sys", "/proc"], new_keyring=False)


def layers() -> Request:
    """A root made of layers, and masks and read-only paths on it"""
    spec = small_spec()
    spec["root"]["readonly"] = True
    spec["linux"].update(maskedPaths=["/proc/kcore"], readonlyPaths=["/proc/sys"])
    return request(spec, layers=["/layers/app:1", "/layers/base", "/scratch"], rootfs_path="/run/skerry/default/box/rootfs")


def scheduling() -> Request:
    """Scheduler, I/O priority, personality, memory policy, limits and oom_score_adj"""
    spec = small_spec()
    spec["process"].update(
        scheduler={"policy": "SCHED_DEADLINE", "runtime": 42000, "deadline": 100000, "flags": ["SCHED_FLAG_RECLAIM"]},
        ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 6},
        rlimits=[{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 5000}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1}],
        oomScoreAdj=500,
        apparmorProfile="box",
    )
    spec["linux"].update(
        personality={"domain": "LINUX32"},
        memoryPolicy={"mode": "MPOL_BIND", "nodes": "0,2-3", "flags": ["MPOL_F_STATIC_NODES"]},
        devices=[{"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o660, "gid": 20}],
    )
    return request(spec, limits={7: (1024, 4096), 4: (0, -1)}, preserve=1, extra_env=["LISTEN_FDS=1"])


def sandbox() -> Request:
    """A sandbox without a process: the namespaces are kept by skerry-init itself"""
    spec = small_spec()
    del spec["process"]
    return request(spec)


CREATED = (
    default, default_v2, user_namespace, joined_namespaces, joined_pid, time_namespace, terminal, seccomp_early, seccomp_late,
    hooks, no_pivot, layers, scheduling, sandbox,
)  # fmt: skip


def exec_v1() -> Request:
    """An additional process on cgroup v1, with a terminal"""
    process = {**small_spec()["process"], "terminal": True, "env": ["A=1"], "cwd": "/tmp"}
    return exec_request(process, console=True)


def exec_v2() -> Request:
    """An additional process on cgroup v2, in a user namespace, on two processors"""
    process = {**small_spec()["process"], "execCPUAffinity": {"initial": "1", "final": "1-2"}, "apparmorProfile": "box"}
    return exec_request(process, cgroup_version=2, join_user=True, stdio_owner=(1,))


def holder() -> Request:
    """A holder of a network namespace"""
    return request(small_spec(), join=0x40000000)


NOTHING = dict.fromkeys(("bounding", "effective", "permitted", "inheritable", "ambient"), [])


def helper_qemu() -> Request:
    """QEMU of a VM, on cgroup v2: a user of its own and nothing else"""
    process = {"user": {"uid": 0x6B000000, "gid": 0x6B000000, "additionalGids": []}, "capabilities": NOTHING,
               "noNewPrivileges": True, "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]}  # fmt: skip
    return request({}, process=process, preserve=7, cgroup_version=2)


def helper_share() -> Request:
    """virtiofsd of a VM, on cgroup v1: root with few capabilities, in a mount namespace with a read-only tree"""
    few = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN"]
    sets = {**NOTHING, "bounding": few, "permitted": few, "effective": few}
    process = {"user": {"uid": 0, "gid": 0, "additionalGids": []}, "capabilities": sets,
               "noNewPrivileges": True, "rlimits": []}  # fmt: skip
    return request({}, process=process, preserve=1)


def helper_file() -> Request:
    """virtiofsd of a VM for a single file"""
    return helper_share()


def build_file(r: Request) -> Plan:
    share = helper.Share("/srv/file", "/run/skerry/default/@vm/1/share", read_only=False, file=True)
    return helper.build(r, helper.Helper(["/usr/lib/virtiofsd", "--fd=3"], ["socket of QEMU"], share=share))


def build_visit(r: Request) -> Plan:
    return visit.build(r, new=False, taps=1)


def build_keep(r: Request) -> Plan:
    return keep.build(r, ["memory of the template", "state of the template"])


def network_visit() -> Request:
    """A visit to a pod's network namespace, for a netlink socket and a tap"""
    return request({}, process=None, preserve=1)


def keeper() -> Request:
    """A keeper of a template"""
    return request({}, process=None, preserve=2)


def build_qemu(r: Request) -> Plan:
    fds = ["memory of the guest", "kernel", "initramfs", "monitor", "console", "link to the agent", "lock of the user id"]
    return helper.build(r, helper.Helper(["/usr/bin/qemu", "-M", "microvm"], fds, namespaces=0x48000000))


def build_share(r: Request) -> Plan:
    share = helper.Share("/srv/volume", "/run/skerry/default/@vm/1/share", read_only=True)
    return helper.build(r, helper.Helper(["/usr/lib/virtiofsd", "--fd=3"], ["socket of QEMU"], share=share))


RECIPES = {
    **dict.fromkeys(CREATED, create.build), exec_v1: exec_recipe.build, exec_v2: exec_recipe.build, holder: hold.build,
    helper_qemu: build_qemu, helper_share: build_share, helper_file: build_file, network_visit: build_visit,
    keeper: build_keep,
}  # fmt: skip


def plan(case) -> Plan:
    return RECIPES[case](case())


def printed(case) -> str:
    return NOTE.format(title=case.__doc__) + "\n" + show.text(plan(case))


@pytest.mark.parametrize("case", RECIPES, ids=lambda case: case.__name__)
def test_plan_is_the_reviewed_one(case, pytestconfig: pytest.Config) -> None:
    file = HERE / f"{case.__name__}.txt"
    found = printed(case)
    if pytestconfig.getoption("--update"):
        file.write_text(found)
    assert file.exists(), "no golden file: run pytest tests/golden --update and review it"
    assert found.splitlines() == file.read_text().splitlines()


def test_no_golden_file_is_left_over() -> None:
    assert {file.stem for file in HERE.glob("*.txt")} == {case.__name__ for case in RECIPES}


@pytest.mark.parametrize("case", RECIPES, ids=lambda case: case.__name__)
def test_nothing_that_matters_is_a_lump_of_bytes(case) -> None:
    """A reviewer must see what is done."""
    assert not re.search(r"\[\d+ bytes\]|\[[0-9a-f]{2}( [0-9a-f]{2})*\]", printed(case))
