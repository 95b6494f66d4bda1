"""Pods: which sandbox, which host and which network namespace a new container belongs to.

Runs in: create, run (hot).   Imports: errors, linux.process, spec.annotations, state.
Source:  docs/lifecycle.md B, 37-40; the seed's rules for hosts and sandboxes.
Never:   changes the store; a refusal here leaves nothing behind.
"""

from skerry.errors import DamagedKey, Error, NoSuchKey
from skerry.linux import process
from skerry.spec import annotations as read
from skerry.state.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.log import Log
    from skerry.state.store import Store


class Place:
    """Where a container goes: ids of its sandbox and host ("" without one).

    host_unique_id   the UniqueID of a host that is another container
    """

    __slots__ = ("host_id", "host_unique_id", "is_host", "is_sandbox", "isolation", "sandbox_id")

    def __init__(self) -> None:
        self.sandbox_id = ""
        self.is_sandbox = False
        self.host_id = self.host_unique_id = ""
        self.is_host = False
        self.isolation = "process"


def find_place(
    store: "Store", id: str, spec: "dict[str, Any]", *, isolation: str, host: str
) -> Place:
    """Apply the rules of sandbox and host.

    Errors  Error with the seed's words; NotFound for a sandbox or host that is not there.
    """
    annotations = spec.get("annotations") or {}
    place = Place()
    place.isolation = read.isolation(annotations, spec, isolation)
    kind, sandbox_id = read.sandbox(annotations)
    if kind == "sandbox":
        if sandbox_id != id:
            raise Error("sandbox ID must match ID")
        place.sandbox_id = id
        place.is_sandbox = True
    elif kind == "container":
        place.sandbox_id = sandbox_id
        sandbox = _sandbox(store, sandbox_id, annotations)
        host = _member_host(sandbox_id, sandbox, place.isolation, host)
    if host:
        record = _record(store, host)
        if not record.get("IsHost"):
            raise Error(f"host container {host} is not a VM host")
        place.host_id = host
        place.host_unique_id = record.get("UniqueID") or ""
        place.isolation = "vm"
    elif place.isolation == "vm":
        place.host_id = id
        place.is_host = True
    return place


def _sandbox(store: "Store", sandbox_id: str, annotations: "dict[str, str]") -> "dict[str, Any]":
    """The record of a member's sandbox.

    podman annotates the members of a pod and names its infra container in them, but leaves that one
    without any: there a standalone container is a sandbox (docs/decisions/0005).
    """
    record = _record(store, sandbox_id)
    of_podman = annotations.get("io.container.manager") == "libpod" and not record.get("SandboxID")
    if record.get("SandboxID") != sandbox_id and not of_podman:
        raise Error(f"container {sandbox_id} is not a sandbox")
    return record


def _member_host(sandbox_id: str, sandbox: "dict[str, Any]", isolation: str, host: str) -> str:
    """A member lives where its sandbox does, whatever its own spec says."""
    sandbox_host: str = sandbox.get("HostID") or ""
    if host and not sandbox_host:
        raise Error(
            f"sandbox container {sandbox_id} is not running in a VM host, but host {host} was specified"
        )
    if host and host != sandbox_host:
        raise Error(
            f"sandbox container {sandbox_id} has a different host {sandbox_host} "
            f"from the requested host {host}"
        )
    if isolation == "vm" and not sandbox_host:
        raise Error(f"container {sandbox_id} is not a VM isolated sandbox")
    return sandbox_host


def share_network(
    store: "Store", spec: "dict[str, Any]", network_from: str, log: "Log"
) -> "dict[str, Any]":
    """The spec with the network namespace of another container, if that is asked for.

    Errors  NotFound for an unknown container; Error where the namespace went with its init.
    """
    source = network_from or (spec.get("annotations") or {}).get(read.NETWORK_FROM) or ""
    if not source:
        return spec
    try:
        path = store.get(source, "netns")
    except NoSuchKey:
        log.warning(
            f"container {source} has no network namespace of its own: the spec's setting applies"
        )
        return spec
    if type(path) is not str:
        raise DamagedKey(source, "netns", "it is not a path")
    _check_alive(store, source, path)
    linux = dict(spec.get("linux") or {})
    others = [entry for entry in linux.get("namespaces") or () if entry["type"] != "network"]
    linux["namespaces"] = [*others, {"type": "network", "path": path}]
    return {**spec, "linux": linux}


def _check_alive(store: "Store", id: str, path: str) -> None:
    """Refuse a namespace that went with its process, whose pid may be anybody's by now.

    One without a file is found through init, or through the holder of a sandbox.
    """
    keepers: list[object] = [*Journal.load(store, id).of("holder")]
    try:
        keepers.append(store.get(id, "pid"))
    except NoSuchKey:
        pass
    for keeper in keepers:
        if type(keeper) is not dict or path != f"/proc/{keeper.get('pid')}/ns/net":
            continue
        if not process.is_alive(keeper["pid"], keeper.get("start") or 0):
            raise Error(f"cannot share the network of container {id}: its init has ended")


def _record(store: "Store", id: str) -> "dict[str, Any]":
    record = store.get(id, "state")
    return record if type(record) is dict else {}
