"""The storages of a container: what the host makes of them, and what the agent is told.

Runs in: vmshim.   Imports: binascii, posix; errors, linux, vm.disks, vm.share.
Source:  docs/vm.md "Storages", "Disks", "Shares"; docs/lifecycle.md 36, 118, 121, 127.
Never:   writes into a rootfs or a layer, or opens a path of the guest.
"""

import binascii
import posix
import stat

from skerry.errors import Error, KernelError, RpcError
from skerry.linux.fd import read_all
from skerry.vm import disks
from skerry.vm.share import Share

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skerry.native.cgroup.group import Cgroup
    from skerry.rpc.loop import Steps
    from skerry.vm.machine import Machine
    from skerry.vm.member import Member
    from skerry.vm.uvm import Uvm

    Wanted = dict[str, Any]


class Place:
    """Where storages of one container go; `attach` and `release` keep account of them in `member.storages`."""

    __slots__ = ("cgroup", "machine", "member", "uvm")

    def __init__(self, uvm: "Uvm", member: "Member", cgroup: "Cgroup | None") -> None:
        if uvm.host.machine is None:
            raise RpcError(f"VM {uvm.id} has ended")
        self.uvm, self.member, self.cgroup = uvm, member, cgroup
        self.machine: Machine = uvm.host.machine

    def attach(self, wanted: "Wanted") -> "Steps":
        """What the agent is told of one storage."""
        return (yield from _KINDS[wanted["kind"]](self, wanted))

    def release(self, *, detach: bool) -> "Steps":
        """Everything, last first. With `detach` the machine lives on, and the guest has let go.

        Errors  the first; what came after it was tried.
        """
        failed: Error | None = None
        attached, self.member.storages = self.member.storages, []
        for kind, what in reversed(attached):
            try:
                if kind == "share":
                    yield from self._end_share(what, detach=detach)
                elif detach and not self.machine.ended.done:
                    yield from self.machine.detach_disk(what)
            except Error as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _end_share(self, share: Share, *, detach: bool) -> "Steps":
        """With the last container that mounts it."""
        share.users -= 1
        if share.users:
            return
        shares = self.uvm.host.shares
        for key in [key for key, found in shares.items() if found is share]:
            del shares[key]
        try:
            if detach:
                yield from share.stop()
        finally:
            share.close()
            journal = self.uvm.journal
            journal.items[:] = [item for item in journal.items if item.get("pid") != share.pid]
            journal.save()

    # kinds

    def _image(self, wanted: "Wanted") -> "Steps":
        fd = yield from disks.image_of(self.uvm.loop, wanted["source"], cgroup=self.cgroup)
        return self._disk(fd, wanted, {"kind": "disk", "fs": "erofs", "read_only": True})

    def _scratch(self, wanted: "Wanted") -> "Steps":
        """A disk from create-scratch; else one that ends with the container."""
        source = wanted["source"]
        if source and not stat.S_ISDIR(_mode(source)):
            fd = disks.open_disk(source, read_only=False)
        else:
            if source:
                self.uvm.log.warning(f"what is written does not go to {source}: a VM's scratch is a disk")
            fd = yield from disks.scratch(self.uvm.loop, cgroup=self.cgroup)
        return self._disk(fd, wanted, {"kind": "disk", "fs": "ext4", "read_only": False})

    def _overlay(self, wanted: "Wanted") -> "Steps":
        yield from ()
        return wanted

    def _block(self, wanted: "Wanted") -> "Steps":
        yield from ()
        fd = disks.open_disk(wanted["source"], read_only=wanted["read_only"])
        return self._disk(fd, wanted, {"kind": "block", "read_only": wanted["read_only"]})

    def _disk(self, fd: int, wanted: "Wanted", told: "Wanted") -> "Wanted":
        try:
            address = self.machine.attach_disk(fd, read_only=told["read_only"])
        finally:
            posix.close(fd)
        self.member.storages.append(("disk", address))
        return {**told, "address": address, "at": wanted["at"]}

    def _file(self, wanted: "Wanted") -> "Steps":
        """Small and read-only: a copy does."""
        yield from ()
        try:
            fd = posix.open(wanted["source"], posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
            try:
                content = read_all(fd)
            finally:
                posix.close(fd)
        except OSError as error:
            raise KernelError("read", wanted["source"], error.errno or 0) from error
        encoded = binascii.b2a_base64(content, newline=False).decode()
        return {"kind": "file", "mode": wanted["mode"], "content": encoded, "at": wanted["at"]}

    def _share(self, wanted: "Wanted") -> "Steps":
        """One for all containers that mount the same: a machine has few slots, and the guest's mounts of a tag are one
        file system, so that memory mapped from its files is shared as well."""
        yield from ()
        shares, key = self.uvm.host.shares, _identity(wanted)
        share = shares.get(key)
        if share is None or share.ended.done:
            share = shares[key] = self._serve(wanted)
        share.users += 1
        self.member.storages.append(("share", share))
        return {"kind": "share", "tag": share.tag, "read_only": wanted["read_only"], "at": wanted["at"]}

    def _serve(self, wanted: "Wanted") -> Share:
        share = Share(self.uvm.loop, self.machine, self.uvm.host.next_tag())
        share.start(
            wanted["source"],
            read_only=wanted["read_only"],
            directory=self.uvm.directory,
            file=wanted["type"] == "file",
            cgroup=self.cgroup,
            on_process=self._record_process,
        )
        return share

    def _record_process(self, pid: int, start: int) -> None:
        """With the VM: whoever had it first may go before the others."""
        self.uvm.journal.add({"kind": "virtiofsd", "pid": pid, "start": start})


def _identity(wanted: "Wanted") -> "tuple[object, ...]":
    """What is shared: under the same path there may be something else by now."""
    path = wanted["source"]
    try:
        found = posix.stat(path)
    except OSError as error:
        raise KernelError("share", path, error.errno or 0) from error
    return path, found.st_dev, found.st_ino, wanted["type"], wanted["read_only"]


def _mode(path: str) -> int:
    try:
        return posix.stat(path).st_mode
    except OSError as error:
        raise KernelError("open", path, error.errno or 0) from error


_KINDS: "dict[str, Callable[[Place, Wanted], Steps]]" = {
    "image": Place._image,
    "scratch": Place._scratch,
    "overlay": Place._overlay,
    "block": Place._block,
    "file": Place._file,
    "share": Place._share,
}
