"""The storages of a container on the host: images, scratches, files; attached to the machine one by one.

Runs in: vmshim.   Imports: binascii, posix; errors, linux, vm.
Source:  docs/vm.md "Storages"; docs/lifecycle.md 36, 118, 121, 127.
Never:   writes into a rootfs or a layer, or opens a path of the guest.
"""

import binascii
import posix

from skerry import timeouts
from skerry.errors import EngineError, KernelError, RpcError
from skerry.linux import process
from skerry.linux.fd import read_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.rpc.loop import Steps
    from skerry.vm.member import Member
    from skerry.vm.uvm import Uvm

SCRATCH_BYTES = 20 << 30


def attach(uvm: "Uvm", member: "Member", wanted: "dict[str, Any]") -> "Steps":
    """What the agent is told of one storage."""
    return (yield from _KINDS[wanted["kind"]](uvm, member, wanted))


def _image(uvm: "Uvm", member: "Member", wanted: "dict[str, Any]") -> "Steps":
    path = _own_file(uvm, member, f"{wanted['at']}.erofs")
    yield from _run(uvm, ["/usr/bin/mkfs.erofs", "--quiet", path, wanted["source"]])
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    return _disk(uvm, member, fd, wanted, fs="erofs", read_only=True)


def _scratch(uvm: "Uvm", member: "Member", wanted: "dict[str, Any]") -> "Steps":
    path = wanted["source"]
    if not path:
        path = _own_file(uvm, member, f"{wanted['at']}.ext4")
        fd = posix.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o600)
        posix.ftruncate(fd, SCRATCH_BYTES)
        posix.close(fd)
        yield from _run(uvm, ["/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", path])
    fd = posix.open(path, posix.O_RDWR | posix.O_CLOEXEC)
    return _disk(uvm, member, fd, wanted, fs="ext4", read_only=False)


def _overlay(_uvm: "Uvm", _member: "Member", wanted: "dict[str, Any]") -> "Steps":
    yield from ()
    return wanted


def _file(_uvm: "Uvm", _member: "Member", wanted: "dict[str, Any]") -> "Steps":
    try:
        fd = posix.open(wanted["source"], posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
        try:
            content = read_all(fd)
        finally:
            posix.close(fd)
    except OSError as error:
        raise KernelError("read", wanted["source"], error.errno or 0) from error
    encoded = binascii.b2a_base64(content, newline=False).decode()
    yield from ()
    return {"kind": "file", "mode": wanted["mode"], "content": encoded, "at": wanted["at"]}


def _disk(
    uvm: "Uvm", member: "Member", fd: int, wanted: "dict[str, Any]", *, fs: str, read_only: bool
) -> "dict[str, Any]":
    try:
        if uvm.host.machine is None:
            raise RpcError(f"VM {uvm.id} has ended")
        address = uvm.host.machine.attach_disk(fd, read_only=read_only)
    finally:
        posix.close(fd)
    member.storages.append(("disk", address))
    return {"kind": "disk", "address": address, "fs": fs, "read_only": read_only, "at": wanted["at"]}


def _own_file(uvm: "Uvm", member: "Member", name: str) -> str:
    path = f"{uvm.directory}/{member.record['UniqueID']}.{name}"
    member.journal.add({"kind": "file", "path": path})
    return path


def _run(uvm: "Uvm", argv: "list[str]") -> "Steps":
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    try:
        pid = process.spawn(argv[0], argv, {}, {0: null, 1: null, 2: null}, close_others=True)
    finally:
        posix.close(null)
    pidfd = process.child_pidfd(pid)
    try:
        yield uvm.loop.readable(pidfd, limit_s=timeouts.seconds("COMMAND"), what=argv[0])
        ended = process.wait_exit(pidfd, 1)
    finally:
        posix.close(pidfd)
    if ended != (0, 0):
        raise EngineError(f"cannot run {argv[0]}: exit status {ended}")


def release(uvm: "Uvm", member: "Member", *, detach: bool) -> "Steps":
    machine = uvm.host.machine
    while member.storages:
        kind, address = member.storages[-1]
        if detach and machine is not None and not machine.ended.done:
            yield from machine.detach_disk(address)
        member.storages.pop()
    for item in reversed(member.journal.of("file")):
        try:
            posix.unlink(item["path"])
        except FileNotFoundError:
            pass
        member.journal.items.remove(item)
    member.journal.save()


_KINDS = {"image": _image, "scratch": _scratch, "overlay": _overlay, "file": _file}
