"""The host's spec to the guest's: what stays, what becomes a storage, what a VM cannot do."""

import copy

import pytest
from support.spec import fresh_spec

from skerry.errors import SpecError
from skerry.vm.guest_spec import BLOCK, DIRECTORY, FILE, OTHER, Source, refuse, translate

RECORD = {"ID": "c1", "Rootfs": "/bundle/rootfs", "Bundle": "/bundle"}
INSIDE = "/run/skerry/storage/c1"


def turned(spec: dict, sources: dict | None = None, layers: list[str] | None = None, pids: dict | None = None):
    before = copy.deepcopy(spec)
    done = translate(spec, RECORD, sources or {}, layers=layers or [], guest_pid=(pids or {}).get)
    assert spec == before, "the host's spec was changed"
    return done


def bind(spec: dict, source: str, *options: str) -> int:
    spec["mounts"].append({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind", *options]})
    return len(spec["mounts"]) - 1


def test_root_is_an_image_below_a_scratch() -> None:
    done = turned(fresh_spec())
    assert done.spec["root"] == {"path": f"{INSIDE}/rootfs", "readonly": True}
    assert done.storages == [
        {"kind": "image", "source": "/bundle/rootfs", "at": "layer0"},
        {"kind": "scratch", "source": "", "at": "scratch"},
        {"kind": "overlay", "lower": ["layer0"], "upper": "scratch", "at": "rootfs"},
    ]
    assert not done.needs_share


def test_layers_topmost_first_and_their_scratch() -> None:
    """lifecycle 158: the last is the scratch."""
    done = turned(fresh_spec(), layers=["/l/top", "/l/base", "/scratch"])
    assert [s["source"] for s in done.storages if s["kind"] == "image"] == ["/l/top", "/l/base"]
    assert done.storages[2] == {"kind": "scratch", "source": "/scratch", "at": "scratch"}
    assert done.storages[3]["lower"] == ["layer0", "layer1"]


def test_small_read_only_files_are_copied() -> None:
    spec = fresh_spec()
    number = bind(spec, "/etc/resolv.conf", "ro")
    done = turned(spec, {number: Source("/etc/resolv.conf", FILE, 100, 0o644)})
    assert done.storages[-1] == {"kind": "file", "source": "/etc/resolv.conf", "mode": 0o644, "at": f"m{number}"}
    assert done.spec["mounts"][number]["source"] == f"{INSIDE}/m{number}"
    assert not done.needs_share


@pytest.mark.parametrize(
    ("source", "options", "read_only"),
    [
        (Source("/d", DIRECTORY), ["ro"], True),
        (Source("/d", DIRECTORY), ["rw"], False),
        (Source("/d", DIRECTORY), ["ro", "rw"], False),
        (Source("/f", FILE, 10), ["rw"], False),
        (Source("/f", FILE, 2 << 20), ["ro"], True),
    ],
)
def test_the_rest_is_shared(source: Source, options: list[str], read_only: bool) -> None:
    spec = fresh_spec()
    number = bind(spec, source.path, *options)
    done = turned(spec, {number: source})
    assert done.needs_share
    share = done.storages[-1]
    assert (share["kind"], share["source"], share["read_only"]) == ("share", source.path, read_only)


def test_what_is_no_file_is_refused() -> None:
    spec = fresh_spec()
    number = bind(spec, "/dev/null")
    with pytest.raises(SpecError) as error:
        turned(spec, {number: Source("/dev/null", OTHER)})
    assert error.value.pointer == f"/mounts/{number}/source"


def test_a_block_device_becomes_a_disk() -> None:
    spec = fresh_spec()
    number = bind(spec, "/dev/loop9")
    done = turned(spec, {number: Source("/dev/loop9", BLOCK)})
    assert done.storages[-1]["kind"] == "block"


def test_hooks_of_the_host_stay_there() -> None:
    """lifecycle 129."""
    spec = fresh_spec()
    names = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    spec["hooks"] = {name: [{"path": "/bin/true"}] for name in names}
    assert list(turned(spec).spec["hooks"]) == ["startContainer"]
    del spec["hooks"]["startContainer"]
    assert "hooks" not in turned(spec).spec


def test_the_network_is_the_vms() -> None:
    spec = fresh_spec()
    found = {n["type"]: n.get("path") for n in turned(spec).spec["linux"]["namespaces"]}
    assert found["network"] == "/proc/1/ns/net" and found["pid"] is None
    spec["linux"]["namespaces"] = [{"type": "mount"}]
    assert turned(spec).spec["linux"]["namespaces"] == [{"type": "mount"}]


def test_namespaces_of_the_pods_other_containers() -> None:
    spec = fresh_spec()
    spec["linux"]["namespaces"] = [{"type": "ipc", "path": "/proc/4711/ns/ipc"}]
    found = turned(spec, pids={4711: 90}).spec["linux"]["namespaces"]
    assert found == [{"type": "ipc", "path": "/proc/90/ns/ipc"}]
    with pytest.raises(SpecError) as error:
        turned(spec, pids={1: 2})
    assert error.value.pointer == "/linux/namespaces/0/path"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"namespaces": [{"type": "ipc", "path": "/var/run/ipcns/x"}]}, "/linux/namespaces/0/path"),
        ({"namespaces": [{"type": "user", "path": "/proc/1/ns/user"}]}, "/linux/namespaces/0/path"),
        ({"namespaces": [{"type": "mount", "path": "/proc/1/ns/mnt"}]}, "/linux/namespaces/0/path"),
        ({"namespaces": [{"type": "ipc", "path": "/proc/1/../2/ns/ipc"}]}, "/linux/namespaces/0/path"),
        ({"intelRdt": {"closID": "x"}}, "/linux/intelRdt"),
        ({"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/s"}}, "/linux/seccomp/listenerPath"),
    ],
)
def test_refusals(change: dict, pointer: str) -> None:
    """lifecycle 137: what cannot be is refused by its name, before anything is made."""
    spec = fresh_spec()
    spec["linux"].update(change)
    with pytest.raises(SpecError) as error:
        refuse(spec)
    assert error.value.pointer == pointer


def test_resources_devices_and_cgroup_stay() -> None:
    spec = fresh_spec()
    spec["linux"].update(cgroupsPath="/pod/c1", resources={"memory": {"limit": 1 << 26}}, devices=[{"path": "/dev/x"}])
    found = turned(spec).spec["linux"]
    assert all(found[name] == spec["linux"][name] for name in ("cgroupsPath", "resources", "devices", "maskedPaths"))


def test_sections_of_the_host_do_not_travel() -> None:
    spec = fresh_spec()
    spec.update(vm={"kernel": {"path": "/k"}}, annotations={"run.skerry.layers": "[]", "a": "b"})
    done = turned(spec)
    assert "vm" not in done.spec and "annotations" not in done.spec


def test_a_sandbox_without_a_process_is_one_in_the_guest() -> None:
    """lifecycle 91."""
    spec = fresh_spec()
    del spec["process"]
    found = turned(spec).spec["annotations"]
    assert found == {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": "c1"}
