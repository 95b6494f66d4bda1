"""Get a netlink socket and taps that belong to another network namespace, without going there.

Runs in: vmshim, template builder.   Imports: posix, fcntl; native.launch, plan.visit.
Source:  docs/security.md 4: never setns or unshare in Python.
Never:   leaves a process there; what it hands out keeps the namespace, until it is closed.
"""

import fcntl
import posix

from skerry.errors import EngineError, KernelError
from skerry.linux.abi import CLONE_NEWNET
from skerry.linux.fd import close_all
from skerry.native import facts
from skerry.native.failure import explain
from skerry.native.launch import Launched, launch_aside
from skerry.plan import ops
from skerry.plan import visit as recipe
from skerry.plan.request import Request

_NS_GET_NSTYPE = 0xB703


def open_namespace(path: str) -> int:
    """The namespace's file, `/proc/<pid>/ns/net` or a name of `ip netns`.

    Errors  KernelError; EngineError for another kind of file.
    Owns    the caller closes it.
    """
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except OSError as error:
        raise KernelError("open", path, error.errno or 0) from None
    try:
        right = fcntl.ioctl(fd, _NS_GET_NSTYPE) == CLONE_NEWNET
    except OSError:
        right = False
    if not right:
        posix.close(fd)
        raise EngineError(f"cannot use {path}: it is not a network namespace")
    return fd


def visit(namespace_fd: int, *, taps: int = 0) -> "tuple[int, list[int]]":
    """(a netlink socket, fds of /dev/net/tun that make taps there); with -1 of a new namespace.

    Errors  InitError, KernelError.
    Owns    the caller closes them.
    """
    new = namespace_fd < 0
    r = Request(facts.machine(), "visit", {}, None)
    r.preserve = 0 if new else 1
    fds = {} if new else {recipe.NAMESPACE_FD: namespace_fd}
    plan = recipe.build(r, new=new, taps=taps)
    launched = launch_aside(plan, r, fds, what="enter the network namespace")
    try:
        socket, *tuns = _receive(launched, 1 + taps)
    finally:
        launched.close()
    return socket, tuns


def _receive(launched: Launched, count: int) -> "list[int]":
    got: list[int] = []
    launched.conversation.send(ops.GO)
    try:
        while True:
            record = launched.conversation.receive()
            if record is None:
                raise EngineError("skerry-init ended in the network namespace without a word")
            if record.kind == ops.FAILED:
                raise explain(launched.plan, record)
            if record.kind == ops.READY and len(got) == count:
                return got
            got.append(record.fd)
    except BaseException:
        close_all(got)
        raise
