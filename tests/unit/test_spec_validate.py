"""check_spec: every row of bad input that needs no kernel is refused, with the pointer of the fault."""

import copy
import resource
from typing import Any

import pytest
from spec_samples import ABSENT, full_spec, put

from skerry.errors import SpecError, UsageError
from skerry.spec.validate import check_spec

N = "/linux/namespaces"
S = "/linux/seccomp"
U64_MAX = (1 << 64) - 1
LONG = "/" + "x" * 4096
MAP = {"containerID": 2000, "hostID": 2000, "size": 1}


def refuse(spec: Any, **options: Any) -> SpecError:
    before = copy.deepcopy(spec)
    with pytest.raises(SpecError) as caught:
        check_spec(spec, **options)
    assert spec == before, "the spec was changed"
    assert len(str(caught.value)) <= 500
    return caught.value


def test_everything_supported_passes() -> None:
    assert check_spec(full_spec()) == []


@pytest.mark.parametrize(
    "spec", [[], None, 1, "x", True], ids=["array", "null", "number", "string", "true"]
)
def test_documents_that_are_no_object(spec: object) -> None:
    assert refuse(spec).pointer == ""


# pointer to change, value, pointer of the refusal (None: the same)
BAD: list[tuple[str, object, str | None]] = [
    # version
    ("/ociVersion", ABSENT, None),
    ("/ociVersion", "one", None),
    ("/ociVersion", "99.0.0", None),
    ("/ociVersion", "0.9.0", None),
    ("/ociVersion", "1.0", None),
    ("/ociVersion", "1.x.0", None),
    ("/ociVersion", "", None),
    ("/ociVersion", 1, None),
    # root
    ("/root", ABSENT, None),
    ("/root", "rootfs", None),
    ("/root", {}, "/root/path"),
    ("/root/path", "", None),
    ("/root/path", 7, None),
    ("/root/path", "a\0b", None),
    ("/root/path", LONG, None),
    ("/root/readonly", "true", None),
    # annotations
    ("/annotations", [], None),
    ("/annotations/", "x", "/annotations/"),
    ("/annotations/a~1b", 1, "/annotations/a~1b"),
    ("/annotations/a", None, None),
    ("/annotations/run.skerry.nonsense", "x", None),
    # process
    ("/process", ABSENT, None),
    ("/process", None, None),
    ("/process", "sh", None),
    ("/process/args", ABSENT, None),
    ("/process/args", [], None),
    ("/process/args", "sh", None),
    ("/process/args/0", "", None),
    ("/process/args/0", "a\0b", None),
    ("/process/args/1", 5, None),
    ("/process/args/1", "x" * 131072, None),
    ("/process/args/1", "é" * 65536, None),
    ("/process/cwd", ABSENT, None),
    ("/process/cwd", "", None),
    ("/process/cwd", "tmp", None),
    ("/process/cwd", 1, None),
    ("/process/cwd", "/a\0", None),
    ("/process/env", {"A": "1"}, None),
    ("/process/env/1", "NAME", None),
    ("/process/env/1", "=x", None),
    ("/process/env/1", "A=\0", None),
    ("/process/env/1", None, None),
    ("/process/env/1", "A=" + "x" * 131070, None),
    ("/process/user", 0, None),
    ("/process/user/uid", -1, None),
    ("/process/user/uid", 4294967296, None),
    ("/process/user/uid", 4294967295, None),
    ("/process/user/uid", 1.5, None),
    ("/process/user/uid", 1.0, None),
    ("/process/user/uid", True, None),
    ("/process/user/uid", "0", None),
    ("/process/user/uid", 10**5000, None),
    ("/process/user/gid", "0", None),
    ("/process/user/umask", "0022", None),
    ("/process/user/umask", 0o1000, None),
    ("/process/user/additionalGids", 5, None),
    ("/process/user/additionalGids/1", False, None),
    ("/process/user/additionalGids", [1] * 65537, None),
    ("/process/user/username", "root", None),
    ("/process/user/uid", 1001, None),  # not mapped
    ("/process/user/gid", 65536, None),
    ("/process/user/additionalGids/1", 70000, None),
    ("/process/capabilities", ["CAP_KILL"], None),
    ("/process/capabilities/bounding", "CAP_KILL", None),
    ("/process/capabilities/bounding/0", 5, None),
    ("/process/rlimits", {}, None),
    ("/process/rlimits/0/type", "RLIMIT_NOPE", None),
    ("/process/rlimits/0/type", "rlimit_nofile", None),
    ("/process/rlimits/0/hard", 9, "/process/rlimits/0/soft"),
    ("/process/rlimits/0/soft", -1, None),
    ("/process/rlimits/0/hard", 2**64, None),
    ("/process/rlimits/0/hard", ABSENT, None),
    ("/process/rlimits/-", {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1},
     "/process/rlimits/1/type"),
    ("/process/oomScoreAdj", 2000, None),
    ("/process/oomScoreAdj", -1001, None),
    ("/process/oomScoreAdj", "5", None),
    ("/process/noNewPrivileges", 1, None),
    ("/process/terminal", "yes", None),
    ("/process/consoleSize", {"height": 1}, "/process/consoleSize/width"),
    ("/process/consoleSize/width", 65536, None),
    ("/process/apparmorProfile", 5, None),
    ("/process/selinuxLabel", "system_u:system_r:x:s0", None),
    # names
    ("/hostname", "x" * 300, None),
    ("/hostname", "é" * 33, None),
    ("/hostname", 5, None),
    ("/domainname", "x" * 65, None),
    ("/domainname", ["x"], None),
    # mounts
    ("/mounts", {}, None),
    ("/mounts/0", "proc", None),
    ("/mounts/0/destination", ABSENT, None),
    ("/mounts/0/destination", "", None),
    ("/mounts/0/destination", "/", None),
    ("/mounts/0/destination", "../../..", None),
    ("/mounts/0/destination", "/a/./../", None),
    ("/mounts/0/destination", 1, None),
    ("/mounts/0/destination", LONG, None),
    ("/mounts/0/type", 1, None),
    ("/mounts/0/type", ABSENT, None),
    ("/mounts/0/type", "none", None),
    ("/mounts/1/options", "nosuid", None),
    ("/mounts/1/options/0", 5, None),
    ("/mounts/2/options/-", "size=5m", "/mounts/2/options/3"),
    ("/mounts/2/options/-", "sync", "/mounts/2/options/3"),
    ("/mounts/2/options/-", "tmpcopyup", "/mounts/2/options/3"),
    ("/mounts/2/options/-", "idmap", "/mounts/2/options/3"),
    ("/mounts/2/options/-", "idmap=uids=0-1-10", "/mounts/2/options/3"),
    ("/mounts/2/source", ABSENT, None),
    ("/mounts/2/source", "", None),
    ("/mounts/2/source", "a\0", None),
    ("/mounts/3/options", ["mode=1"], "/mounts/3/options/0"),
    ("/mounts/2/uidMappings", [MAP], None),
    ("/mounts/2/gidMappings", [MAP], None),
    # namespaces
    (N, {}, None),
    (f"{N}/1/type", "pids", None),
    (f"{N}/1/type", ABSENT, None),
    (f"{N}/1/type", 5, None),
    (f"{N}/1/type", "uts", f"{N}/4/type"),
    (f"{N}/2/path", "proc/1/ns/net", None),
    (f"{N}/2/path", 5, None),
    (f"{N}/0", ABSENT, N),
    (f"{N}/4", ABSENT, "/hostname"),
    (f"{N}/5", ABSENT, "/linux/uidMappings"),
    (f"{N}/7", ABSENT, "/linux/timeOffsets"),
    (f"{N}/7/path", "/proc/1/ns/time", "/linux/timeOffsets"),
    ("/linux", ABSENT, N),
    ("/linux", [], None),
    # id maps
    ("/linux/uidMappings", ABSENT, None),
    ("/linux/gidMappings", [], None),
    ("/linux/uidMappings/0/size", 0, None),
    ("/linux/uidMappings/0/size", 1001, "/linux/uidMappings/1/containerID"),
    ("/linux/uidMappings/1/hostID", 100999, None),
    ("/linux/uidMappings/0/hostID", 4294967295, "/linux/uidMappings/0/size"),
    ("/linux/uidMappings/0/containerID", -1, None),
    ("/linux/uidMappings/0/containerID", 1, "/linux/uidMappings/1/containerID"),
    ("/linux/uidMappings/0/size", ABSENT, None),
    ("/linux/uidMappings/0", ABSENT, "/linux/uidMappings"),  # 0 is not mapped
    ("/linux/uidMappings", [{"containerID": n, "hostID": n, "size": 1} for n in range(341)], None),
    # masks, propagation, time
    ("/linux/maskedPaths", "/proc/kcore", None),
    ("/linux/maskedPaths/0", "proc/kcore", None),
    ("/linux/maskedPaths/0", "/", None),
    ("/linux/readonlyPaths/0", "", None),
    ("/linux/readonlyPaths/0", "/a/..", None),
    ("/linux/rootfsPropagation", "bogus", None),
    ("/linux/timeOffsets/monotonic", 5, None),
    ("/linux/timeOffsets/monotonic/secs", 1.5, None),
    ("/linux/timeOffsets/boottime/nanosecs", 1000000000, None),
    # devices
    ("/linux/devices", {}, None),
    ("/linux/devices/0/type", "x", None),
    ("/linux/devices/0/type", ABSENT, None),
    ("/linux/devices/0/path", ABSENT, None),
    ("/linux/devices/0/path", "dev/fuse", None),
    ("/linux/devices/0/path", "/dev/..", None),
    ("/linux/devices/0/major", ABSENT, None),
    ("/linux/devices/0/major", -1, None),
    ("/linux/devices/0/minor", 1 << 20, None),
    ("/linux/devices/0/fileMode", 0o200000, None),
    ("/linux/devices/0/fileMode", "0666", None),
    ("/linux/devices/0/uid", -1, None),
    # sysctl
    ("/linux/sysctl", [], None),
    ("/linux/sysctl/vm.swappiness", "1", None),
    ("/linux/sysctl/kernel.core_pattern", "|/x", None),
    ("/linux/sysctl/kernel~1core_pattern", "|/x", None),
    ("/linux/sysctl/net...~1..~1", "1", None),
    ("/linux/sysctl/net~1..~1kernel~1core_pattern", "1", None),
    ("/linux/sysctl/net.", "1", None),
    ("/linux/sysctl/", "1", None),
    ("/linux/sysctl/kernel.hostname", "x", None),
    ("/linux/sysctl/kernel.sem", 5, None),
    ("/linux/sysctl/kernel.sem", "1\0", None),
    # cgroups
    ("/linux/cgroupsPath", 5, None),
    ("/linux/cgroupsPath", "/a/../../b", None),
    ("/linux/cgroupsPath", "a\0", None),
    ("/linux/cgroupsPath", "/" + "x" * 5000, None),
    ("/linux/cgroupsPath", "system.slice:skerry:box", None),
    # not supported yet
    ("/linux/mountLabel", "x", None),
    ("/linux/intelRdt", {"closID": "x"}, None),
    ("/linux/netDevices", {"eth0": {"name": "x"}}, None),
    # seccomp
    (S, [], None),
    (S, {}, f"{S}/defaultAction"),
    (f"{S}/defaultAction", "SCMP_ACT_NOPE", None),
    (f"{S}/defaultAction", "SCMP_ACT_NOTIFY", None),
    (f"{S}/defaultAction", "SCMP_ACT_KILL", f"{S}/defaultErrnoRet"),
    (f"{S}/defaultAction", "SCMP_ACT_ALLOW", f"{S}/defaultErrnoRet"),
    (f"{S}/defaultErrnoRet", 4095, None),
    (f"{S}/defaultErrnoRet", "EPERM", None),
    (f"{S}/architectures/1", "SCMP_ARCH_Z80", None),
    (f"{S}/flags/0", "SECCOMP_FILTER_FLAG_NEW_LISTENER", None),
    (f"{S}/listenerPath", ABSENT, None),
    (f"{S}/listenerPath", "run/agent.sock", None),
    (f"{S}/listenerMetadata", 1, None),
    (f"{S}/syscalls/1", ABSENT, f"{S}/flags"),
    (f"{S}/syscalls/1/names/0", "write", f"{S}/syscalls/1/action"),
    (f"{S}/syscalls", {}, None),
    (f"{S}/syscalls/0/names", [], None),
    (f"{S}/syscalls/0/names", ABSENT, None),
    (f"{S}/syscalls/0/names", "read", None),
    (f"{S}/syscalls/0/names/1", "", None),
    (f"{S}/syscalls/0/names/1", 5, None),
    (f"{S}/syscalls/0/action", ABSENT, None),
    (f"{S}/syscalls/0/action", "ALLOW", None),
    (f"{S}/syscalls/0/errnoRet", 1, None),
    (f"{S}/syscalls/2/errnoRet", 65536, None),
    (f"{S}/syscalls/2/args", {}, None),
    (f"{S}/syscalls/2/args/0/index", 9, None),
    (f"{S}/syscalls/2/args/0/index", ABSENT, None),
    (f"{S}/syscalls/2/args/0/value", -1, None),
    (f"{S}/syscalls/2/args/0/value", ABSENT, None),
    (f"{S}/syscalls/2/args/0/valueTwo", 2**64, None),
    (f"{S}/syscalls/2/args/0/op", "SCMP_CMP_ISH", None),
    # hooks
    ("/hooks", [], None),
    ("/hooks/prestart", {"path": "/bin/a"}, None),
    ("/hooks/prestart/0", "/bin/a", None),
    ("/hooks/prestart/0/path", "bin/a", None),
    ("/hooks/prestart/0/path", ABSENT, None),
    ("/hooks/prestart/0/args", "a", None),
    ("/hooks/prestart/0/env/0", "A", None),
    ("/hooks/prestart/0/timeout", 0, None),
    ("/hooks/prestart/0/timeout", -1, None),
    ("/hooks/prestart/0/timeout", 1.5, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "value", "pointer"),
    BAD,
    ids=[f"{n} {place}" for n, (place, _, _) in enumerate(BAD)],
)
def test_refuses(place: str, value: object, pointer: str | None) -> None:
    """security.md section 8."""
    spec = full_spec()
    put(spec, place, value)
    assert refuse(spec).pointer == (place if pointer is None else pointer)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *(("/ociVersion", f"1.{text}") for text in ("0.0", "0.2-dev", "99.0", "2.0-rc.1", "3.0+x")),
        ("/unknown", {"x": None}),
        ("/process/unknown", 1),
        ("/linux/resources/unknown", []),
        ("/windows", {"layerFolders": 5}),
        ("/solaris", "x"),
        ("/hooks/unknown", 5),
        ("/process/user", ABSENT),
        ("/process/user/additionalGids", []),
        ("/process/env", ABSENT),
        ("/process/terminal", False),
        ("/process/selinuxLabel", ""),
        ("/process/args/1", "x" * 131071),
        ("/hostname", "x" * 64),
        ("/hostname", ""),
        ("/linux/seccomp/syscalls/0/names/0", "no_such_call"),
        ("/linux/namespaces/2/path", ""),
        ("/linux/rootfsPropagation", ""),
        ("/linux/devices/0/fileMode", 0o20666),
        ("/linux/cgroupsPath", ""),
        ("/linux/cgroupsPath", "relative/a:b:c"),
        ("/linux/netDevices", {}),
        ("/linux/sysctl/net.ipv4.conf.eth0~1100.forwarding", "1"),
        ("/linux/sysctl/user.max_user_namespaces", "5"),
        ("/linux/sysctl/kernel.domainname", "x"),
        ("/linux/sysctl/fs.mqueue.msg_max", "10"),
        ("/mounts/0/type", "ext4"),
        ("/mounts/2/options", ["bind", "ro", "suid", "acl", "silent"]),
        ("/mounts/-", {"destination": "/y", "options": ["remount", "ro"]}),
    ],
)
def test_takes(place: str, value: object) -> None:
    spec = full_spec()
    put(spec, place, value)
    assert check_spec(spec) == []


def test_unknown_capabilities_warn() -> None:
    spec = full_spec()
    spec["process"]["capabilities"]["bounding"] = ["CAP_KILL", "CAP_FLY"]
    warnings = check_spec(spec)
    assert warnings == [
        '/process/capabilities/bounding/1: unknown capability "CAP_FLY" is ignored'
    ]


@pytest.mark.parametrize(
    ("kind", "key", "words"),
    [
        ("ipc", "kernel.shmmax", "host's ipc namespace"),
        ("ipc", "fs.mqueue.msg_max", "host's ipc namespace"),
        ("network", "net.core.somaxconn", "host's network namespace"),
        ("uts", "kernel.domainname", "host's uts namespace"),
        ("user", "user.max_pid_namespaces", "host's user namespace"),
    ],
)
def test_sysctls_need_their_namespace(kind: str, key: str, words: str) -> None:
    spec = full_spec()
    linux = spec["linux"]
    linux["namespaces"] = [item for item in linux["namespaces"] if item["type"] != kind]
    for word in ("hostname", "domainname"):
        del spec[word]
    if kind == "user":
        del linux["uidMappings"], linux["gidMappings"]
    linux["sysctl"] = {key: "1"}
    error = refuse(spec)
    assert error.pointer == f"/linux/sysctl/{key}"
    assert words in error.rule


def test_sysctls_of_a_joined_network_namespace_that_is_the_host_s() -> None:
    spec = full_spec()
    spec["linux"]["sysctl"] = {"net.core.somaxconn": "1"}
    spec["linux"]["namespaces"][2]["path"] = "/proc/self/ns/net"
    assert "host's network" in refuse(spec).rule
    spec["linux"]["namespaces"][2]["path"] = "/proc/self/ns/mnt"
    assert check_spec(spec) == []  # the type is checked when it is joined


def test_secrets_are_never_shown() -> None:
    """security.md P08: no value of the environment, no argument but the first."""
    for place, value in (
        ("/process/env/1", "SECRET\0=x"),
        ("/process/env/1", "SECRET"),
        ("/process/env/1", "A=SECRET" + "x" * 140000),
        ("/process/env", {"A": "SECRET"}),
        ("/process/args/1", "SECRET\0"),
        ("/process/args/1", "SECRET" + "x" * 140000),
        ("/hooks/prestart/0/env/0", "SECRET"),
        ("/hooks/prestart/0/args/0", "SECRET\0"),
    ):
        spec = full_spec()
        put(spec, place, value)
        assert "SECRET" not in str(refuse(spec))


def test_sizes_that_execve_refuses_are_told() -> None:
    """decisions.md 13."""
    spec = full_spec()
    spec["process"]["env"] = ["A=1"] * 12 + ["B=" + "x" * 139998]
    assert str(refuse(spec)) == "/process/env/12: 140000 bytes, the kernel takes 131071"
    spec["process"]["env"] = ["B=" + "x" * 100_000] * 70
    spec["process"]["rlimits"] = [{"type": "RLIMIT_STACK", "soft": U64_MAX, "hard": U64_MAX}]
    assert "the kernel takes 6291456" in refuse(spec).rule
    spec["process"]["rlimits"] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (8 << 20, hard))
    try:
        assert "the kernel takes 2097152" in refuse(spec).rule, "the limit that the program inherits"
    finally:
        resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))
    spec["process"]["env"] = ["B=" + "x" * 100_000] * 3
    assert check_spec(spec) == []
    spec["process"]["rlimits"] = [{"type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 1 << 20}]
    assert "the kernel takes 262144" in refuse(spec).rule


def test_form_of_a_message() -> None:
    """security.md section 7: pointer, value, rule."""
    spec = full_spec()
    spec["process"]["user"]["uid"] = 4294967296
    assert str(refuse(spec)) == "/process/user/uid: 4294967296 is not in 0..4294967294"
    spec = full_spec()
    spec["process"]["cwd"] = "tmp\x1b[31m"
    assert str(refuse(spec)) == "/process/cwd: Cwd must be an absolute path"
    spec = full_spec()
    spec["linux"]["rootfsPropagation"] = "\x1b[31m" + "x" * 70000
    assert str(refuse(spec)).isprintable()


def test_a_sandbox_needs_no_process() -> None:
    """lifecycle 91."""
    spec = full_spec()
    del spec["process"]
    assert "process property must not be empty" in str(refuse(spec))
    spec["annotations"] = {
        "io.kubernetes.cri.container-type": "sandbox",
        "io.kubernetes.cri.sandbox-id": "p",
    }
    assert check_spec(spec) == []


def test_layers_replace_the_root() -> None:
    """lifecycle 36."""
    spec = full_spec()
    del spec["root"]
    assert str(refuse(spec)).endswith("must provide either layers or root.path")
    spec["annotations"]["run.skerry.layers"] = '["/layer", "scratch"]'
    assert check_spec(spec) == []
    for bad in ("", "x", "{}", "[]", '["/one"]', '["", ""]', '["/a", 5]'):
        spec["annotations"]["run.skerry.layers"] = bad
        assert refuse(spec).pointer == "/annotations/run.skerry.layers"


def test_ways_to_ask_for_a_vm() -> None:
    """lifecycle 18; the form of the section is checked whatever the flag says."""
    spec = full_spec()
    spec["annotations"]["run.skerry.isolation"] = "vm"
    assert check_spec(spec) == []
    spec["annotations"]["run.skerry.isolation"] = "jail"
    assert refuse(spec).pointer == "/annotations/run.skerry.isolation"
    assert check_spec(spec, isolation_flag="process") == []
    with pytest.raises(UsageError, match='^invalid isolation "qemu"$'):
        check_spec(full_spec(), isolation_flag="qemu")


@pytest.mark.parametrize(
    ("section", "pointer"),
    [
        ([], "/vm"),
        ({"kernel": {}}, "/vm/kernel/path"),
        ({"kernel": {"path": "k"}}, "/vm/kernel/path"),
        ({"kernel": {"path": "/k", "initrd": 7}}, "/vm/kernel/initrd"),
        ({"kernel": {"path": "/k", "parameters": "quiet"}}, "/vm/kernel/parameters"),
        ({"hypervisor": {"parameters": []}}, "/vm/hypervisor/path"),
        ({"image": {"path": "/i"}}, "/vm/image/format"),
        ({"image": {"path": "/i", "format": "zip"}}, "/vm/image/format"),
        ({"hwConfig": {"vcpus": -1}}, "/vm/hwConfig/vcpus"),
        ({"hwConfig": {"memory": "1g"}}, "/vm/hwConfig/memory"),
    ],
)
def test_vm_section(section: object, pointer: str) -> None:
    """config-vm.md; an empty section asks for a VM and nothing else."""
    spec = full_spec()
    spec["vm"] = {}
    assert check_spec(spec) == []
    spec["vm"] = section
    assert refuse(spec).pointer == pointer


def test_without_root_a_user_namespace_is_needed() -> None:
    spec = full_spec()
    assert check_spec(spec, rootful=False) == []
    spec["linux"]["namespaces"].pop(5)
    del spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]
    assert check_spec(spec) == []
    assert refuse(spec, rootful=False).pointer == N


def test_a_joined_user_namespace_needs_no_maps() -> None:
    """decisions.md 22: new without maps is refused; with a path they are optional."""
    spec = full_spec()
    del spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]
    assert refuse(spec).pointer == "/linux/uidMappings"
    spec["linux"]["namespaces"][5]["path"] = "/proc/1/ns/user"
    assert check_spec(spec) == []
