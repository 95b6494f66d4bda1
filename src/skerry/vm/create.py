"""Make a container in a VM: the VM if it is to be its owner, hooks, the guest's half, the shim.

Runs in: create, run of VM containers.   Imports: posix; errors, hooks, rpc, state, vm.
Source:  docs/lifecycle.md 40, 44-51, 129, 130.
Never:   makes anything of the host itself but the two helpers: the vmshim does, and writes it down.
"""

import posix

from skerry import paths, timeouts
from skerry.engine import Options
from skerry.errors import Error, NoSuchKey, SpecError
from skerry.hooks import run_host_hooks
from skerry.linux import process
from skerry.native import facts
from skerry.rpc.handoff import launch
from skerry.rpc.requests import Peer
from skerry.state.journal import Journal
from skerry.vm import guest_spec, settings, shim, sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.log import Log
    from skerry.state.store import Store

# In the order of the host's own containers; their mounts are made in the guest, so all of these come before
_HOST_HOOKS = ("prestart", "createRuntime", "createContainer")
_MARGIN_S = 5


def create(
    store: "Store", spec: "dict[str, Any]", record: "dict[str, Any]", options: Options, log: "Log"
) -> shim.Built:
    """Up to the shim's answer.

    Errors  whatever stopped it.
    """
    guest_spec.refuse(spec)
    if record["Rootfs"] and not sources.layers(spec, record):
        facts.check_rootfs(record["Rootfs"])
    id = record["ID"]
    peer = Peer(paths.vm_dir(store.root, record["HostUniqueID"]), paths.VMSHIM, record["HostID"])
    if record["IsHost"]:
        _start_vm(store, spec, record, options, log)
    else:
        _check_network(store, spec, record)
    hooks = spec.get("hooks") or {}
    if any(hooks.get(name) for name in _HOST_HOOKS):
        state = _hook_state(store, spec, record)
        for name in _HOST_HOOKS:
            run_host_hooks(name, hooks.get(name) or [], state)
    peer.ask(id, "create", limit_s=timeouts.seconds("CREATE", warn=log.warning) + _MARGIN_S)
    return shim.start(store, record, spec.get("process") or {}, options, log)


def _start_vm(
    store: "Store", spec: "dict[str, Any]", record: "dict[str, Any]", options: Options, log: "Log"
) -> None:
    if record["NetworkNamespace"] is None:
        log.warning(f"VM {record['ID']} has only a loopback interface: its spec has no network namespace")
    chosen = settings.choose(spec, settings.load_config(), log.warning)
    chosen.console_path = options.vm_console
    data = {"unique_id": record["UniqueID"], "settings": chosen.to_json()}
    words = ["--root", store.root, *log.options(), "vmshim", record["ID"]]
    limit = timeouts.seconds("CREATE", warn=log.warning)
    what = f"VM {record['ID']}"
    helper = launch(words, data=data, fds={}, log=options.vm_log, limit_s=limit, what=what)
    # It lives as long as its VM; whoever inherits our children reaps it.
    posix.close(helper.pidfd)


def _check_network(store: "Store", spec: "dict[str, Any]", record: "dict[str, Any]") -> None:
    """A container that joins a VM uses the VM's network, whatever namespace holds that (lifecycle 40).

    Errors  SpecError for a namespace that is another.
    """
    for number, namespace in enumerate((spec.get("linux") or {}).get("namespaces") or ()):
        path = namespace.get("path") or ""
        if namespace["type"] != "network" or not path:
            continue
        host = record["HostID"]
        try:
            theirs = store.get(host, "netns")
        except NoSuchKey:
            theirs = ""
        if type(theirs) is str and _is_same(path, theirs):
            continue
        if not _is_named_by_shim(store, host, path):
            raise SpecError(
                f"/linux/namespaces/{number}/path",
                f"container {record['ID']} cannot have the network {path}: it runs in the VM of container {host}",
            )


def _is_named_by_shim(store: "Store", host: str, path: str) -> bool:
    """Whether it is the VM's to an engine, which names namespaces by the pid that it has of a container, its shim's."""
    for id in (host, *store.ids()):
        record, shim = _object(store, id, "state"), _object(store, id, "shim")
        if record.get("HostID") == host and path == f"/proc/{shim.get('pid')}/ns/net":
            return process.is_alive(shim["pid"], shim.get("start") or 0)
    return False


def _object(store: "Store", id: str, key: str) -> "dict[str, Any]":
    """Empty for a container that is just made or taken away."""
    try:
        found = store.get(id, key)
    except Error:
        return {}
    return found if type(found) is dict else {}


def _is_same(path: str, other: str) -> bool:
    try:
        first, second = posix.stat(path), posix.stat(other)
    except OSError:
        return False
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def network_pid(store: "Store", record: "dict[str, Any]") -> int:
    """The holder of the VM's network namespace; its vmshim where the namespace is another's, or none."""
    try:
        journal = Journal.load(store, record["HostID"])
    except Error:
        return 0
    for kind in ("holder", "vmshim"):
        for item in journal.of(kind):
            if type(item.get("pid")) is int:
                return int(item["pid"])
    return 0


def _hook_state(
    store: "Store", spec: "dict[str, Any]", record: "dict[str, Any]"
) -> "dict[str, Any]":
    """runtime.md "State"."""
    state = {
        "ociVersion": spec["ociVersion"],
        "id": record["ID"],
        "status": "creating",
        "pid": network_pid(store, record),
        "bundle": record["Bundle"],
    }
    if spec.get("annotations"):
        state["annotations"] = spec["annotations"]
    return state
