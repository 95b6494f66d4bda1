"""Which sandbox and host a new container belongs to: lifecycle 22-31 as far as no VM is needed."""

import pytest

from skerry.errors import Error, NotFound
from skerry.pod import find_place

CRI = ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id")
CRIO = ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID")

RECORDS = {
    "sandbox": {"SandboxID": "sandbox", "HostID": "", "IsHost": False},
    "plain": {"SandboxID": "", "HostID": "", "IsHost": False},
    "member": {"SandboxID": "sandbox", "HostID": "", "IsHost": False},
    "vm": {"SandboxID": "vm", "HostID": "vm", "IsHost": True, "UniqueID": "1234"},
}


class Store:
    def get(self, id, key):
        if id not in RECORDS:
            raise NotFound(id)
        return RECORDS[id]


def place(family, kind, sandbox_id, *, id="new", host="", isolation="", more=()):
    annotations = {family[0]: kind, family[1]: sandbox_id, **dict(more)}
    return find_place(Store(), id, {"annotations": annotations}, isolation=isolation, host=host)


def test_member_of_a_sandbox():
    """lifecycle 24"""
    found = place(CRI, "container", "sandbox")
    assert (found.sandbox_id, found.is_sandbox, found.isolation) == ("sandbox", False, "process")


def test_member_of_a_vm_follows_its_sandbox():
    """lifecycle 24: whatever its own spec says"""
    found = place(CRI, "container", "vm")
    assert (found.host_id, found.is_host, found.isolation) == ("vm", False, "vm")


@pytest.mark.parametrize(
    "kind, sandbox_id, options, words",
    [
        ("sandbox", "other", {}, "sandbox ID must match ID"),
        ("container", "plain", {}, "container plain is not a sandbox"),
        ("container", "member", {}, "container member is not a sandbox"),
        ("container", "vm", {"host": "x"}, "different host vm from the requested host x"),
        ("container", "sandbox", {"host": "vm"}, "is not running in a VM host, but host vm"),
        ("container", "sandbox", {"isolation": "vm"}, "container sandbox is not a VM isolated sandbox"),
    ],
)
def test_refusals(kind, sandbox_id, options, words):
    """lifecycle 22, 23, 25, 26, 27"""
    with pytest.raises(Error, match=words):
        place(CRI, kind, sandbox_id, **options)


def test_unknown_sandbox():
    """lifecycle 23"""
    with pytest.raises(NotFound):
        place(CRI, "container", "nowhere")


def test_podman_does_not_annotate_its_infra_container():
    """decisions/0005; a container that is a member itself stays no sandbox"""
    podman = [("io.container.manager", "libpod")]
    assert place(CRIO, "container", "plain", more=podman).sandbox_id == "plain"
    with pytest.raises(Error, match="container member is not a sandbox"):
        place(CRIO, "container", "member", more=podman)


@pytest.mark.parametrize("kind", ["sandbox", ""])
def test_a_vm_of_its_own(kind):
    """lifecycle 29"""
    found = place(CRI, kind, "new", isolation="vm")
    assert (found.host_id, found.is_host, found.isolation) == ("new", True, "vm")


@pytest.mark.parametrize("kind", ["sandbox", ""])
@pytest.mark.parametrize("isolation", ["", "process", "vm"])
def test_a_host_is_joined(kind, isolation):
    """lifecycle 30, 31: whatever the spec says about isolation; the owner's UniqueID is copied"""
    found = place(CRI, kind, "new", host="vm", isolation=isolation)
    assert (found.host_id, found.is_host, found.isolation) == ("vm", False, "vm")
    assert found.host_unique_id == "1234"


def test_process_isolation_has_no_host():
    """lifecycle 29"""
    found = place(CRI, "", "")
    assert (found.host_id, found.is_host, found.isolation) == ("", False, "process")


@pytest.mark.parametrize("host", ["plain", "sandbox", "member"])
def test_a_host_must_own_a_vm(host):
    """lifecycle 28"""
    with pytest.raises(Error, match=f"host container {host} is not a VM host"):
        place(CRI, "", "", host=host)


def test_a_host_must_exist():
    """lifecycle 28"""
    with pytest.raises(NotFound):
        place(CRI, "", "", host="nowhere")
