"""Our own suites of cgroup v2, run inside a guest: there every controller is on v2, as on a current distribution.

A development machine may have them on v1, where these tests can show little.
"""

import faulthandler
from pathlib import Path

import pytest
from support import agent_vm, workbench
from support.agent_client import Client

CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SETFCAP",
    "CAP_SYSLOG", "CAP_BPF", "CAP_PERFMON",
]  # fmt: skip
# file -> what of it needs a v2 controller, for pytest -k
SUITES = {
    "tests/kernel/test_cgroup_v2.py": "",
    "tests/oci/test_cgroups.py": "by_effect or oom_event or update_of_memory_and_swap or half_way or pause_and_resume",
}


@pytest.fixture(scope="module")
def bench(built, tmp_path_factory: pytest.TempPathFactory):
    work = tmp_path_factory.mktemp("bench")
    disk = agent_vm.make_image(workbench.build(work / "root"), work / "bench.erofs")
    with agent_vm.Guest(built.kernel, built.initramfs, disks=[(disk, True)], memory_mib=1024) as guest:
        guest.client.hello()
        guest.client.seed()
        yield guest.client


def spec() -> dict:
    """With the guest's own cgroups, devices and processes: the suites are the guest's administrator."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "args": ["sleep", "100000"],
            "cwd": "/skerry",
            "env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin", "HOME=/root", "PYTHONPATH=/opt/site:/skerry/src"],
            "user": {"uid": 0, "gid": 0},
            "capabilities": {name: CAPABILITIES for name in ("bounding", "effective", "permitted")},
        },
        "root": {"path": "/run/skerry/storage/bench/rootfs", "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "rw"]},
            {"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind", "rw"]},
            *({"destination": path, "type": "tmpfs", "source": "tmpfs"} for path in ("/tmp", "/run", "/root")),
        ],
        "linux": {
            "namespaces": [{"type": "mount"}],
            "cgroupsPath": "/bench",
            "resources": {"devices": [{"allow": True, "access": "rwm"}]},
        },
    }


@pytest.fixture(scope="module")
def container(bench: Client) -> str:
    storages = [{"kind": "disk", "address": "0:0", "fs": "erofs", "read_only": True, "at": "rootfs"}]
    bench.create("bench", spec(), storages=storages)
    bench.request("start", container="bench")
    return "bench"


@pytest.mark.parametrize("suite", SUITES)
def test_suite_passes_in_the_guest(bench: Client, container: str, suite: str):
    faulthandler.cancel_dump_traceback_later()  # two minutes are for one test, and this is a suite of them
    streams = bench.open_streams("stdout", "stderr")
    args = ["python3", "-B", "-m", "pytest", "-q", "-rs", "--durations=5", "-p", "no:cacheprovider", suite]
    process = {**spec()["process"], "args": args + (["-k", SUITES[suite]] if SUITES[suite] else [])}
    bench.exec(container, Path(suite).stem, process, streams=streams)
    end = bench.exit_of(container, Path(suite).stem, limit_s=1500)
    said = bench.output(streams["stdout"]).decode(errors="replace") + bench.output(streams["stderr"]).decode(errors="replace")
    print(said)
    assert end["code"] == 0, said[-6000:]
