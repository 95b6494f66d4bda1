"""Give back what a container in a VM has: in the guest by its vmshim, of the host by the journal.

Runs in: delete, a failed create.   Imports: posix; errors, linux, native.release, state.
Source:  docs/lifecycle.md 115-121, 144; docs/vm.md "What is on record".
Never:   waits for a guest longer than a delete may take; uses a path that a guest has said.
"""

import posix

from skerry import paths
from skerry.errors import Error, KernelError, RpcError, VmUnreachable
from skerry.linux import process
from skerry.native import release as native
from skerry.rpc.requests import Peer
from skerry.state.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.log import Log
    from skerry.state.store import Store

_SIGKILL = 9
# A busy host's guest takes its time to let a disk go; one that was late before gets little more.
_ASK_S, _LATE_S = 20, 4
_END_S = 10


def release_guest(
    store: "Store", record: "dict[str, Any]", peer: Peer, log: "Log", *, is_late: bool
) -> bool:
    """The vmshim's part: what there is in the guest, for the owner the VM; whether there was anything.

    `is_late`: the VM did not answer before, and gets little time to do so now.
    Errors  what the vmshim could not do; that it cannot be reached is a warning.
    """
    limit_s = _LATE_S if is_late else _ASK_S
    id = record["ID"]
    journal = Journal.load(store, id)
    had_items = bool(journal.items)
    if record["IsHost"]:
        if had_items:
            _end_vm(id, peer, journal, log, limit_s)
    else:
        try:
            peer.ask(id, "unmount", limit_s=limit_s)
        except (VmUnreachable, RpcError) as error:
            log.warning(str(error))
    return had_items or not record["IsHost"]


def release_host(store: "Store", record: "dict[str, Any]", peer: Peer) -> None:
    """What of it still is on record, and the socket of a shim that nobody has started.

    Errors  ReleaseError.
    """
    _unlink(f"{peer.directory}/{record['UniqueID']}")
    native.release_all(Journal.load(store, record["ID"]), ITEMS)


def _end_vm(id: str, peer: Peer, journal: Journal, log: "Log", limit_s: float) -> None:
    """By request; where that does not help, by killing its vmshim, without which it ends."""
    try:
        peer.ask(id, "unmount-disk", limit_s=limit_s)
        peer.ask(id, "shutdown", limit_s=limit_s)
    except (VmUnreachable, RpcError) as error:
        if posix_exists(f"{peer.directory}/{paths.VMSHIM}"):
            log.warning(str(error))
    kill_vmshim(journal)


def posix_exists(path: str) -> bool:
    try:
        posix.lstat(path)
    except OSError:
        return False
    return True


def kill_vmshim(journal: Journal) -> None:
    """Its VM ends with it."""
    for item in journal.of("vmshim"):
        _release_process(item)


def release_remains(store: "Store", id: str, log: "Log") -> None:
    """What damaged facts still tell of.

    Errors  ReleaseError.
    """
    try:
        journal = Journal.load(store, id)
    except Error as error:
        log.warning(str(error))
        return
    native.release_all(journal, ITEMS)


def _release_process(item: "dict[str, Any]") -> None:
    """A vmshim ends itself when it has answered, so it gets a moment before it is killed."""
    pidfd = process.open_pidfd(item["pid"], item["start"])
    if pidfd is None:
        return
    try:
        if not process.has_ended(pidfd, 0.2):
            process.send_signal(pidfd, _SIGKILL)
        if not process.has_ended(pidfd, _END_S):
            raise KernelError("end", f"process {item['pid']}", 110)
        process.wait_exit(pidfd, 0)
    finally:
        posix.close(pidfd)


def _release_directory(item: "dict[str, Any]") -> None:
    """The directory of a VM: flat, for nothing but skerry ever writes there."""
    directory = item["directory"]
    try:
        names = posix.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        _unlink(f"{directory}/{name}")
    try:
        posix.rmdir(directory)
        posix.rmdir(directory.rpartition("/")[0])
    except OSError as error:
        if posix_exists(directory):
            raise KernelError("remove", directory, error.errno or 0) from error


def _release_network(item: "dict[str, Any]") -> None:
    from skerry.vm.network import release as restore

    restore(item["path"], item["names"])


def _unlink(path: str) -> None:
    try:
        posix.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except IsADirectoryError:
        posix.rmdir(path)
    except OSError as error:
        raise KernelError("remove", path, error.errno or 0) from error


ITEMS: "native.Table" = {
    **native.ITEMS,
    "vmshim": _release_process,
    "qemu": _release_process,
    "virtiofsd": _release_process,
    "vm": _release_directory,
    "redirect": _release_network,
}
