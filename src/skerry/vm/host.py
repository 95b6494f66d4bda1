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
from skerry.native import holder
from skerry.native.cgroup.group import Cgroup
from skerry.native.cgroup.tree import open_cgroup, read_layout
from skerry.paths import version
from skerry.rpc.handoff import open_log_target
from skerry.rpc.loop import Future
from skerry.vm import guest_spec, hardware, image, sources, template
from skerry.vm import network as networks
from skerry.vm.guest import Guest
from skerry.vm.member import Member
from skerry.vm.network import PodNetwork
from skerry.vm.storage import Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.rpc.loop import Steps
    from skerry.vm.machine import Machine
    from skerry.vm.share import Share
    from skerry.vm.uvm import Uvm

_ENTROPY_BYTES = 64
_LOOK_AGAIN_S = 0.1
# They may make interfaces, and run when the VM does
_NETWORK_HOOKS = ("prestart", "createRuntime", "createContainer")
PROTOCOL = 1


class Host:
    """The host's half of one VM."""

    __slots__ = ("_cgroup", "_interfaces", "_network_is_late", "_tags", "_uvm", "machine", "shares")

    def __init__(self, uvm: "Uvm") -> None:
        self._uvm = uvm
        self.machine: Machine | None = None
        self._cgroup: Cgroup | None = None
        self._interfaces: list[dict[str, Any]] = []
        self._network_is_late = False
        self._tags = 0
        self.shares: dict[object, Share] = {}  # by what is shared (storage.py)

    # the VM

    def start(self, record: "dict[str, Any]") -> "Steps":
        """QEMU runs.

        Errors  VmError, KernelError.
        """
        uvm = self._uvm
        spec = uvm.store.get(uvm.id, "spec")
        if type(spec) is not dict:
            raise Error(f"container {uvm.id} has no spec")
        linux = spec.get("linux") or {}
        self._enter_cgroup(linux.get("cgroupsPath") or "")
        settings = uvm.settings
        if not settings.kernel or not settings.initrd:
            found = image.ensure(cache=settings.image_cache, progress=uvm.log.info)
            settings.kernel = settings.kernel or found.kernel
            settings.initrd = settings.initrd or found.initramfs
        path = self._open_namespace(record)
        hooks = spec.get("hooks") or {}
        self._network_is_late = any(hooks.get(name) for name in _NETWORK_HOOKS)
        network = None
        if path and not self._network_is_late:
            network = self._stand_in(path)
        try:
            count = len(network.interfaces) if network is not None else 0
            chosen = hardware.decide(
                settings,
                macs=[networks.mac(number) for number in range(count)],
                shares=self._network_is_late or self._may_share(record, spec),
                log=uvm.log,
            )
            self.machine = yield from template.start(
                uvm.loop,
                uvm.store.root,
                chosen,
                log=uvm.log,
                template=settings.template,
                taps=network.taps if network is not None else (),
                cgroup=self._cgroup,
                console_log_fd=self._open_console_log(),
                on_process=self._record_qemu,
            )
            self._interfaces = network.facts() if network is not None else []
        finally:
            if network is not None:
                network.close()
        return self.machine

    def _open_console_log(self) -> int:
        path = self._uvm.settings.console_path
        return open_log_target(path) if path else -1

    def _may_share(self, record: "dict[str, Any]", spec: "dict[str, Any]") -> bool:
        """The members of a sandbox may bring volumes; another container's are known."""
        if record["SandboxID"] == record["ID"]:
            return True
        found = sources.look(spec, record)
        translation = guest_spec.translate(
            spec, record, found, layers=sources.layers(spec, record), guest_pid=lambda _: None
        )
        return translation.needs_share

    # its network

    def _open_namespace(self, record: "dict[str, Any]") -> str:
        """The namespace on the host that is the VM's, for whoever shares it (lifecycle 37-39); "" is none."""
        uvm = self._uvm
        path: str | None = record["NetworkNamespace"]
        if path is None:
            return ""
        if not path:
            path = f"/proc/{holder.make_network(uvm.journal, uvm.id)}/ns/net"
        uvm.store.set(uvm.id, "netns", path)
        return path

    def _stand_in(self, path: str) -> PodNetwork:
        """Take over what arrives at the namespace's interfaces."""
        network = PodNetwork(path)
        try:
            if network.interfaces:
                item = {"kind": "redirect", "path": path, "names": network.names}
                self._uvm.journal.add(item)
            network.attach()
        except BaseException:
            network.close()
            raise
        return network

    def network(self, member: Member) -> "Steps":
        """The guest's interfaces, once, after the owner's hooks."""
        uvm = self._uvm
        if member.id != uvm.id or self.machine is None:
            return
        if self._network_is_late:
            self._plug_network(member.record)
        if self._interfaces:
            yield from self._tell_network()

    def _tell_network(self) -> "Steps":
        """What was plugged in just now the guest finds a moment later."""
        uvm = self._uvm
        deadline = time.monotonic() + (timeouts.seconds("DEVICE") if self._network_is_late else 0)
        while True:
            try:
                yield uvm.ask("network", interfaces=self._interfaces)
                return
            except Error:
                if time.monotonic() > deadline:
                    raise
            later = Future()
            uvm.loop.call_later(_LOOK_AGAIN_S, later.set)
            yield later

    def _plug_network(self, record: "dict[str, Any]") -> None:
        """What hooks have made is plugged in, for the machine runs already."""
        path = self._uvm.store.get(self._uvm.id, "netns") if record["NetworkNamespace"] is not None else ""
        if type(path) is not str or not path or self.machine is None:
            return
        network = self._stand_in(path)
        try:
            for number, interface in enumerate(network.interfaces):
                self.machine.plugs.attach_interface(interface.tap_fd, networks.mac(number))
            self._interfaces = network.facts()
        finally:
            network.close()

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

    def storages(self, member: Member, wanted: "list[dict[str, Any]]") -> "Steps":
        """Make and attach; what the agent is to be told."""
        place = Place(self._uvm, member, self._cgroup)
        told = []
        for storage in wanted:
            told.append((yield from place.attach(storage)))
        return told

    def release(self, member: Member, *, detach: bool) -> "Steps":
        """What was attached for a container, last first; with `detach` the guest has let it go and lives on."""
        if member.storages:
            yield from Place(self._uvm, member, self._cgroup).release(detach=detach)

    def next_tag(self) -> str:
        """A share's name, of this machine alone."""
        self._tags += 1
        return f"share{self._tags}"


def _seeded(answer: object) -> "tuple[str, int]":
    from skerry.errors import RpcError, one_line

    if type(answer) is not dict or type(answer.get("version")) is not str:
        raise RpcError("the guest answers its seed without a version")
    protocol = answer.get("protocol")
    return one_line(answer["version"], 40), protocol if type(protocol) is int else 0
