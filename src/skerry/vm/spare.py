"""Taps that lead nowhere, for the interfaces of a template.

Runs in: template builder.   Imports: posix; native.visit, vm.network.
Source:  docs/vm.md "Templates": a clone's interfaces must look to QEMU like the template's.
Never:   is in any namespace that somebody uses.
"""

import posix

from skerry.linux.fd import close_all
from skerry.native.visit import visit
from skerry.vm.network import make_tap


class Taps:
    """So many taps in a namespace of their own, which ends with them. Use as a context."""

    __slots__ = ("_count", "_fds")

    def __init__(self, count: int) -> None:
        self._count = count
        self._fds: list[int] = []

    def __enter__(self) -> "list[int]":
        if self._count:
            socket, self._fds = visit(-1, taps=self._count)
            posix.close(socket)
            try:
                for fd in self._fds:
                    make_tap(fd)
            except BaseException:
                close_all(self._fds)
                raise
        return self._fds

    def __exit__(self, *_: object) -> None:
        close_all(self._fds)
