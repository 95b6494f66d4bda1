"""What a VM has of its host: cgroup, network, machine, and for each container disks and shares.

Runs in: vmshim.   Imports: posix; errors, native, rpc, vm.
Source:  docs/vm.md "The machine", "What is on record"; docs/lifecycle.md 38-40, 77, 118-120.
Never:   makes anything that is not on record first.
"""

import binascii
import posix
import time

from skerry import timeouts
from skerry.errors import Error
from skerry.native.cgroup.group import Cgroup
from skerry.native.cgroup.tree import open_cgroup, read_layout
from skerry.paths import version
from skerry.vm import hardware, image, template
from skerry.vm.guest import Guest
from skerry.vm.member import Member

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.rpc.loop import Steps
    from skerry.vm.machine import Machine
    from skerry.vm.uvm import Uvm

_ENTROPY_BYTES = 64
PROTOCOL = 1


class Host:
    """The host's half of one VM."""

    __slots__ = ("_cgroup", "_uvm", "machine")

    def __init__(self, uvm: "Uvm") -> None:
        self._uvm = uvm
        self.machine: Machine | None = None
        self._cgroup: Cgroup | None = None

    # the VM

    def start(self, record: "dict[str, Any]") -> "Steps":
        """QEMU runs.

        Errors  VmError, KernelError.
        """
        uvm = self._uvm
        spec = uvm.store.get(uvm.id, "spec")
        linux = spec.get("linux") or {} if type(spec) is dict else {}
        self._enter_cgroup(linux.get("cgroupsPath") or "")
        settings = uvm.settings
        if not settings.kernel or not settings.initrd:
            found = image.ensure(cache=settings.image_cache, progress=uvm.log.info)
            settings.kernel = settings.kernel or found.kernel
            settings.initrd = settings.initrd or found.initramfs
        chosen = hardware.decide(settings, log=uvm.log)
        self.machine = yield from template.start(
            uvm.loop,
            uvm.store.root,
            chosen,
            log=uvm.log,
            template=settings.template,
            cgroup=self._cgroup,
            on_process=self._record_qemu,
        )
        return self.machine

    def _enter_cgroup(self, path: str) -> None:
        """The pod's cgroup on the host: QEMU and its helpers live there, without the container's limits."""
        uvm = self._uvm
        cgroup = open_cgroup(read_layout(), path, uvm.id)
        cgroup.refuse_busy()
        item: dict[str, Any] = {"kind": "cgroup", "cgroup": cgroup.record}
        uvm.journal.add(item)
        try:
            cgroup.create()
        except Error:
            cgroup.abandon()
            uvm.journal.items.remove(item)
            uvm.journal.save()
            raise
        item["entered"] = True
        uvm.journal.save()
        self._cgroup = cgroup

    def _record_qemu(self, pid: int, start: int) -> None:
        self._uvm.journal.add({"kind": "qemu", "pid": pid, "start": start})

    def first_words(self, guest: Guest) -> "Steps":
        """Hear the agent, and make a guest of its own out of what may be a clone.

        Errors  RpcError, or what the agent answers.
        """
        machine, uvm = self.machine, self._uvm
        if machine is not None and not machine.cloned:
            yield uvm.loop.within(guest.hello, timeouts.seconds("BOOT"), "the guest's agent")
        entropy = binascii.b2a_base64(posix.getrandom(_ENTROPY_BYTES), newline=False).decode()
        answer = yield guest.request(
            uvm.loop,
            "seed",
            judge=_seeded,
            limit_s=timeouts.seconds("BOOT"),
            entropy=entropy,
            time_ns=time.time_ns(),
        )
        if answer != (version(), PROTOCOL):
            uvm.log.warning(f"the guest's skerry is another: version {answer[0]}, protocol {answer[1]}")
        yield guest.request(uvm.loop, "identity", hostname="skerry")

    def stop(self, poweroff_s: float) -> "Steps":
        if self.machine is not None:
            yield from self.machine.stop(poweroff_s)

    # containers

    def network(self, member: Member, spec: "dict[str, Any]") -> "Steps":
        return
        yield

    def storages(self, member: Member, wanted: "list[dict[str, Any]]") -> "Steps":
        """Make and attach; what the agent is to be told."""
        from skerry.vm.storage import attach

        told = []
        for storage in wanted:
            told.append((yield from attach(self._uvm, member, storage)))
        return told

    def release(self, member: Member, *, detach: bool) -> "Steps":
        """What was attached for a container, last first; with `detach` the guest has let it go and lives on."""
        from skerry.vm.storage import release

        yield from release(self._uvm, member, detach=detach)


def _seeded(answer: object) -> "tuple[str, int]":
    from skerry.errors import RpcError, one_line

    if type(answer) is not dict or type(answer.get("version")) is not str:
        raise RpcError("the guest answers its seed without a version")
    protocol = answer.get("protocol")
    return one_line(answer["version"], 40), protocol if type(protocol) is int else 0
