"""Specs to test with, and how to change one place of them."""

from typing import Any

ABSENT = object()


def full_spec() -> dict[str, Any]:
    """A spec that uses every property skerry supports."""
    return {
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "box",
        "domainname": "example",
        "annotations": {"org.example.key": "value", "run.skerry.isolation": "process"},
        "process": full_process(),
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "data", "source": "volume", "options": ["rbind", "rslave", "rro"]},
            {"destination": "/x", "source": "/x", "type": "bind"},
            {"destination": "/tmp", "type": "tmpfs", "options": ["tmpcopyup", "size=1m"]},
        ],
        "hooks": {
            "prestart": [{"path": "/bin/a", "args": ["a"], "env": ["A=1"], "timeout": 5}],
            "poststop": [{"path": "/bin/b"}],
        },
        "linux": {
            "namespaces": [
                {"type": "mount"},
                {"type": "pid"},
                {"type": "network", "path": "/proc/1/ns/none"},
                {"type": "ipc"},
                {"type": "uts"},
                {"type": "user"},
                {"type": "cgroup"},
                {"type": "time"},
            ],
            "uidMappings": [
                {"containerID": 0, "hostID": 100000, "size": 1000},
                {"containerID": 1000, "hostID": 1000, "size": 1},
            ],
            "gidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
            "timeOffsets": {"monotonic": {"secs": -5, "nanosecs": 1}, "boottime": {"secs": 9}},
            "devices": [
                {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438,
                 "uid": 0, "gid": 0},
                {"path": "/dev/fifo", "type": "p"},
            ],
            "cgroupsPath": "/pods/box",
            "rootfsPropagation": "rslave",
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
            "sysctl": {"net.ipv4.ip_forward": "1", "kernel/sem": "32 32 32 32"},
            "seccomp": full_seccomp(),
            "resources": full_resources(),
            "personality": {"domain": "LINUX32", "flags": []},
            "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0-3, 7", "flags": ["MPOL_F_STATIC_NODES"]},
        },
    }  # fmt: skip


def full_process() -> dict[str, Any]:
    return {
        "terminal": True,
        "consoleSize": {"height": 25, "width": 80},
        "cwd": "/",
        "args": ["sh", ""],
        "env": ["PATH=/bin", "EMPTY="],
        "user": {"uid": 1000, "gid": 5, "umask": 0o22, "additionalGids": [10, 20]},
        "capabilities": {"bounding": ["CAP_KILL"], "ambient": []},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 18446744073709551615}],
        "noNewPrivileges": True,
        "apparmorProfile": "p",
        "oomScoreAdj": -999,
        "scheduler": {"policy": "SCHED_DEADLINE", "nice": 19, "flags": ["SCHED_FLAG_RESET_ON_FORK"],
                      "runtime": 42000, "deadline": 100000, "period": 1000000},
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 4},
        "execCPUAffinity": {"initial": "7", "final": "0-3,7"},
    }


def full_seccomp() -> dict[str, Any]:
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "listenerPath": "/run/agent.sock",
        "listenerMetadata": "m",
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"},
            {"names": ["clone"], "action": "SCMP_ACT_TRACE", "errnoRet": 65535,
             "args": [{"index": 5, "value": 18446744073709551615, "valueTwo": 1,
                       "op": "SCMP_CMP_MASKED_EQ"}]},
        ],
    }  # fmt: skip


def full_resources() -> dict[str, Any]:
    device = {"major": 8, "minor": 0}
    return {
        "memory": {"limit": 1 << 30, "reservation": -1, "swap": 2 << 30, "swappiness": 100,
                   "disableOOMKiller": False, "useHierarchy": True, "checkBeforeUpdate": True},
        "cpu": {"shares": 1024, "quota": 100000, "burst": 1000, "period": 100000,
                "realtimeRuntime": 0, "realtimePeriod": 1000000, "cpus": "0-1, 3", "mems": "0",
                "idle": 1},
        "pids": {"limit": -1},
        "devices": [{"allow": False, "access": "rwm"},
                    {"allow": True, "type": "c", "major": 1, "minor": -1, "access": "rw"}],
        "unified": {"memory.high": "1000000"},
        "blockIO": {"weight": 10, "leafWeight": 1000, "weightDevice": [{**device, "weight": 500}],
                    "throttleReadBpsDevice": [{**device, "rate": 600}],
                    "throttleWriteIOPSDevice": [{**device, "rate": 0}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 9223372036854772000}],
        "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
    }  # fmt: skip


def put(document: Any, pointer: str, value: object) -> None:
    """Set, add (`-` behind an array) or remove (ABSENT) what a JSON pointer names."""
    *parents, last = [
        part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]
    ]
    for part in parents:
        document = document[int(part)] if isinstance(document, list) else document[part]
    if value is ABSENT:
        del document[int(last) if isinstance(document, list) else last]
    elif isinstance(document, list):
        document.append(value) if last == "-" else document.__setitem__(int(last), value)
    else:
        document[last] = value
