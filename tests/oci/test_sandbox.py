"""Pods of processes: sandbox annotations, sharing a network by container id, sandboxes without a process."""

import json
import os
import subprocess

import pytest
from support import host
from support.box import Box, Container
from support.spec import drop_namespace, fresh_spec, namespace

pytestmark = pytest.mark.skerry_only("lifecycle 18-40: pods are skerry's own")

CRI = ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id")
CRIO = ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID")
DOCKER = ("io.kubernetes.docker.type", "io.kubernetes.sandbox.id")
FAMILIES = {"cri": CRI, "cri-o": CRIO, "docker": DOCKER}


def annotate(spec: dict, family: tuple[str, str], kind: str, id: str = "") -> dict:
    spec.setdefault("annotations", {})[family[0]] = kind
    if id:
        spec["annotations"][family[1]] = id
    return spec


def sandbox(box: Box, family: tuple[str, str] = CRI, word: str = "sandbox") -> Container:
    id = box.new_id()
    spec = annotate(fresh_spec("probe", "park"), family, word, id)
    container = box.create(spec, id=id).start()
    container.stream.until("ready")
    return container


def record(container: Container) -> dict:
    """Read the `state` key: lifecycle 1, 43."""
    return json.loads((container.box.runtime.root / container.id / "state").read_text())


@pytest.mark.parametrize(("family", "word"), [("cri", "sandbox"), ("cri-o", "sandbox"), ("docker", "podsandbox")])
def test_families(box: Box, family: str, word: str) -> None:
    """lifecycle 19."""
    first = sandbox(box, FAMILIES[family], word)
    assert record(first)["SandboxID"] == first.id
    member = box.create(annotate(fresh_spec(), FAMILIES[family], "container", first.id))
    assert record(member)["SandboxID"] == first.id


def test_the_first_family_with_a_type_decides(box: Box) -> None:
    """lifecycle 20, 21: an unknown value means standalone, though a later family names a sandbox."""
    spec = annotate(fresh_spec(), CRI, "podsandbox", "other")
    annotate(spec, CRIO, "container", "missing")
    container = box.create(spec)
    assert record(container)["SandboxID"] in ("", container.id)


def test_empty_type_is_no_type(box: Box) -> None:
    """lifecycle 20: the family is passed over."""
    first = sandbox(box, CRIO)
    spec = annotate(fresh_spec(), CRI, "")
    annotate(spec, CRIO, "container", first.id)
    assert record(box.create(spec))["SandboxID"] == first.id


@pytest.mark.parametrize("family", FAMILIES)
def test_container_without_an_id_is_standalone(box: Box, family: str) -> None:
    """lifecycle 21."""
    container = box.create(annotate(fresh_spec(), FAMILIES[family], "container"))
    assert container.status == "created"


def test_sandbox_id_must_match(box: Box) -> None:
    """lifecycle 22, 32."""
    box.refuses(annotate(fresh_spec(), CRI, "sandbox", "other"), "sandbox ID must match ID")


def test_sandbox_must_exist(box: Box) -> None:
    """lifecycle 23, 32."""
    box.refuses(annotate(fresh_spec(), CRI, "container", "nobody"), "ID 'nobody' was not found")


def test_sandbox_must_be_one(box: Box) -> None:
    """lifecycle 23."""
    plain = box.parked(fresh_spec())
    result = box.try_create(annotate(fresh_spec(), CRI, "container", plain.id)).failed()
    result.says(f"container {plain.id} is not a sandbox")
    assert plain.status == "running"


def test_host_without_a_vm(box: Box) -> None:
    """lifecycle 25, 28."""
    first = sandbox(box)
    member = annotate(fresh_spec(), CRI, "container", first.id)
    text = f"sandbox container {first.id} is not running in a VM host, but host x was specified"
    box.try_create(member, "--host", "x").failed().says(text)
    box.try_create(fresh_spec(), "--host", "nobody").failed().says("ID 'nobody' was not found")
    box.try_create(fresh_spec(), "--host", first.id).failed().says(f"host container {first.id} is not a VM host")


@pytest.mark.parametrize("value", ["", "VM", "both", "x"])
def test_unknown_isolation(box: Box, value: str) -> None:
    """lifecycle 18."""
    if value:
        box.try_create(fresh_spec(), f"--isolation={value}").failed().says(f'invalid isolation "{value}"')
    spec = fresh_spec()
    spec["annotations"] = {"run.skerry.isolation": value or "none"}
    box.refuses(spec, "invalid isolation")


def test_process_isolation_by_flag_overrides(box: Box) -> None:
    """lifecycle 18: only the flag does, over the annotation and over a `vm` section; not the annotation over that."""
    spec = fresh_spec()
    spec["annotations"] = {"run.skerry.isolation": "vm"}
    assert record(box.create(spec, "--isolation", "process"))["Isolation"] == "process"
    spec["vm"] = {"kernel": {"path": "/nowhere"}}
    assert record(box.create(spec, "--isolation", "process"))["Isolation"] == "process"
    spec["annotations"] = {"run.skerry.isolation": "process"}
    box.try_create(spec).failed().says("kernel /nowhere")


def test_record(box: Box) -> None:
    """lifecycle 43."""
    container = box.create(fresh_spec())
    assert {
        "ID", "Owner", "SandboxID", "HostID", "IsHost", "UniqueID", "HostUniqueID", "Bundle", "Created", "Rootfs", "Isolation", "Creator",
    } <= record(container).keys()  # fmt: skip


def test_unique_ids_are_random(box: Box) -> None:
    """lifecycle 31."""
    id = box.new_id()
    seen = set()
    for _ in range(3):
        container = box.create(fresh_spec(), id=id)
        seen.add(record(container)["UniqueID"])
        container.delete().ok()
    assert len(seen) == 3


def test_tenant_annotations_choose_nothing(box: Box) -> None:
    """lifecycle 32: refused, naming the annotation; the operator's own spec may."""
    first = sandbox(box)
    spec = annotate(fresh_spec(), CRI, "container", first.id)
    spec["annotations"]["run.skerry.network-from"] = first.id
    box.try_create(spec).failed().says("run.skerry.network-from")
    spec = fresh_spec()
    spec["annotations"] = {"run.skerry.network-from": first.id}
    box.create(spec)


# --- sharing a network

@pytest.mark.parametrize("form", ["flag", "annotation"])
def test_network_by_container_id(box: Box, form: str) -> None:
    """lifecycle 37."""
    first = box.parked(fresh_spec())
    spec = fresh_spec()
    flags = ("--network-from", first.id) if form == "flag" else ()
    if form == "annotation":
        spec["annotations"] = {"run.skerry.network-from": first.id}
    second = box.parked(spec, *flags)
    assert host.namespaces_of(second.pid)["net"] == host.namespaces_of(first.pid)["net"]


def test_flag_wins_over_the_annotation(box: Box) -> None:
    """lifecycle 37."""
    first, second = box.parked(fresh_spec()), box.parked(fresh_spec())
    spec = fresh_spec()
    spec["annotations"] = {"run.skerry.network-from": first.id}
    third = box.parked(spec, "--network-from", second.id)
    assert host.namespaces_of(third.pid)["net"] == host.namespaces_of(second.pid)["net"]


def test_network_of_an_unknown_id(box: Box) -> None:
    """lifecycle 37."""
    result = box.try_create(fresh_spec(), "--network-from", "nobody").failed().says("ID 'nobody' was not found")
    assert box.leftovers() == [], result


def test_network_of_one_without_any(box: Box) -> None:
    """lifecycle 37: a warning, and the spec's own setting applies."""
    spec = fresh_spec()
    drop_namespace(spec, "network")
    spec["mounts"] = [m for m in spec["mounts"] if not m["destination"].startswith("/sys")]
    spec["linux"]["maskedPaths"] = []
    first = box.parked(spec)
    result = box.run(fresh_spec("readlink", "/proc/self/ns/net"), "--network-from", first.id).ok()
    assert result.out.strip() != os.readlink("/proc/self/ns/net")
    assert result.err != ""


def test_netns_key_is_a_path(box: Box) -> None:
    """lifecycle 15, 159."""
    container = box.parked(fresh_spec())
    path = json.loads((box.runtime.root / container.id / "netns").read_text())
    assert os.stat(path).st_ino == os.stat(f"/proc/{container.pid}/ns/net").st_ino


def test_network_of_a_sandbox_outlives_its_init(box: Box) -> None:
    """lifecycle 39, decisions 8: until its delete."""
    first = sandbox(box)
    network = host.namespaces_of(first.pid)["net"]
    first.end()
    assert first.status == "stopped"
    member = box.parked(fresh_spec(), "--network-from", first.id)
    assert host.namespaces_of(member.pid)["net"] == network
    member.delete("--force").ok()
    first.delete().ok()


def test_joined_network_stays(box: Box) -> None:
    """lifecycle 39, 121, 149: the joiner never deletes it, and can come again."""
    with subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE) as holder:
        host.eventually(lambda: host.namespaces_of(holder.pid)["net"] != host.namespaces_of("self")["net"])
        path = f"/proc/{holder.pid}/ns/net"
        for _ in range(2):
            id = box.new_id()
            spec = annotate(fresh_spec("probe", "park"), CRI, "sandbox", id)
            namespace(spec, "network", path)
            container = box.create(spec, id=id).start()
            container.stream.until("ready")
            assert host.namespaces_of(container.pid)["net"] == host.namespaces_of(holder.pid)["net"]
            container.delete("--force").ok()
        assert os.path.exists(path)
        holder.communicate(b"")


# --- no process

def test_sandbox_without_a_process(box: Box) -> None:
    """lifecycle 91, decisions 8: start succeeds, a holder stays, its pid is what a member joins."""
    id = box.new_id()
    spec = annotate(fresh_spec(), CRI, "sandbox", id)
    del spec["process"]
    container = box.create(spec, id=id)
    assert container.status == "created"
    container.start()
    assert container.status == "running"
    member = fresh_spec()
    namespace(member, "network", f"/proc/{container.pid}/ns/net")
    joined = box.parked(annotate(member, CRI, "container", id))
    assert host.namespaces_of(joined.pid)["net"] == host.namespaces_of(container.pid)["net"]
    joined.delete("--force").ok()
    container.delete("--force").ok()


def test_no_process_elsewhere(box: Box) -> None:
    """lifecycle 91."""
    spec = fresh_spec()
    del spec["process"]
    box.refuses(spec, "process property must not be empty")
