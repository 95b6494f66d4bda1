"""A virtual machine: QEMU, started with next to nothing, fed by fds, ended whatever happens.

Runs in: vmshim, template builder.   Imports: posix, _socket; linux, rpc, vm.
Source:  docs/vm.md "The machine"; docs/security.md V27, V52.
Never:   talks to the agent; who has the machine makes a link of `link_fd`.

Methods that wait are tasks of the loop: `yield from machine.stop(...)`, or `loop.complete(machine.stop(...))`.
"""

import _socket
import posix

from skerry import timeouts
from skerry.errors import Error, RpcError, VmError
from skerry.linux import process
from skerry.linux.abi import CLONE_NEWIPC, CLONE_NEWNET, MFD_NOEXEC_SEAL
from skerry.linux.fd import close_all
from skerry.rpc.loop import READ, Future, Loop
from skerry.vm import accel, boot_files, confine, devices
from skerry.vm.console import Console
from skerry.vm.hotplug import Plugs
from skerry.vm.qmp import Qmp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skerry.native.cgroup.group import Cgroup
    from skerry.rpc.loop import Steps
    from skerry.vm.hardware import Hardware

_MIB = 1 << 20
# The fds of QEMU, from 3 up; then a tap for each interface, then kernel and initramfs, which a clone has in its memory.
_FDS = ("memory of the guest", "monitor", "console", "link to the agent", "lock of the user id")
_MEMORY, _MONITOR, _CONSOLE, _LINK, _, _TAPS = range(3, 4 + len(_FDS))
_QUIT_S = 2


def command_line(hardware: "Hardware", *, shared: bool, incoming: bool) -> "list[str]":
    """QEMU's whole argv; the fds in it are those of _FDS."""
    profile = hardware.profile
    parts: "list[devices.Part]" = [
        devices.Board(profile),
        devices.Processor(hardware.accelerator, hardware.vcpus),
        devices.Memory(_MEMORY, hardware.memory_mib, shared=shared),
        devices.Sandbox(),
        devices.Monitor(_MONITOR),
        devices.Console(_CONSOLE),
        devices.Link(_LINK, profile),
        devices.Scsi(profile),
    ]
    parts += [
        devices.Interface(number, _TAPS + number, mac, profile)
        for number, mac in enumerate(hardware.macs)
    ]
    if profile == devices.Q35:
        parts.append(devices.Bridge())
    if incoming:
        parts.append(devices.Incoming())
    else:
        kernel = _TAPS + len(hardware.macs)
        parts.append(devices.Kernel(kernel, kernel + 1, khz=hardware.khz, words=hardware.words))
    words = [word for part in parts for word in part.arguments()]
    return [hardware.program, *words, *hardware.parameters]


def new_memory(mib: int) -> int:
    """Owns: the caller closes it. It can be sealed later."""
    flags = posix.MFD_CLOEXEC | posix.MFD_ALLOW_SEALING
    try:
        fd = posix.memfd_create("skerry-guest", flags | MFD_NOEXEC_SEAL)
    except OSError:  # before Linux 6.3
        fd = posix.memfd_create("skerry-guest", flags)
    posix.ftruncate(fd, mib * _MIB)
    return fd


class Machine:
    """One that runs, or has run.

    cloned    it came from a template: the agent is up already, and waits for its seed
    link_fd   the link to the agent; `take_link` gives it away
    console   what the guest writes; `said` what QEMU does
    ended     done with (code, signal) when QEMU has ended
    """

    __slots__ = (
        "_loop", "_slot", "cloned", "console", "ended", "hardware", "link_fd", "pid", "pidfd", "plugs", "qmp", "said",
        "start_time",
    )  # fmt: skip

    def __init__(self, loop: Loop, hardware: "Hardware") -> None:
        self._loop, self.hardware = loop, hardware
        self._slot: confine.Slot | None = None
        self.cloned = False
        self.pid = self.pidfd = self.link_fd = -1
        self.start_time = 0
        self.ended = Future()

    def launch(
        self,
        memory_fd: int,
        *,
        taps: "Sequence[int]" = (),
        shared: bool = True,
        incoming: bool = False,
        cgroup: "Cgroup | None" = None,
        console_log_fd: int = -1,
        on_process: "Callable[[int, int], None] | None" = None,
    ) -> "Steps":
        """Start QEMU and wait for its monitor; the guest runs then, unless it waits for a template's state.

        Owns    the log's fd is taken; memory and taps stay the caller's. `on_process(pid, start time)` is called before
                QEMU can do anything.
        Errors  VmError with what QEMU said, InitError, KernelError; nothing is left then.
        """
        theirs: list[int] = []  # closed here when QEMU has its own
        try:
            if len(taps) != len(self.hardware.macs):
                raise VmError("cannot start QEMU: each interface needs a tap", phase="launch")
            sockets = self._connect(theirs, console_log_fd)
            self._slot = confine.take_slot(self.hardware.uid_base)
            lock_fd = self._slot.fd if self._slot.fd >= 0 else sockets[-1]
            fds = list(zip([memory_fd, *sockets[:-1], lock_fd], _FDS, strict=True))
            fds += [(fd, f"tap {number}") for number, fd in enumerate(taps)]
            if not incoming:
                files = boot_files.open_both(self.hardware.kernel, self.hardware.initrd)
                theirs += files
                fds += zip(files, ("kernel", "initramfs"), strict=True)
            running = confine.start(
                command_line(self.hardware, shared=shared, incoming=incoming),
                fds,
                self._confinement(cgroup),
                said_fd=sockets[-1],
                on_process=on_process,
            )
        except BaseException:
            if not hasattr(self, "console") and console_log_fd >= 0:
                posix.close(console_log_fd)
            self.close()
            raise
        finally:
            close_all(theirs)
        self._runs(running)
        yield from self._greet()

    def _connect(self, theirs: "list[int]", console_log_fd: int) -> "list[int]":
        """Result: QEMU's ends of monitor, console and link, and of what it says on its standard output."""
        monitor, console, link = (_pair(theirs) for _ in range(3))
        said, said_fd = posix.pipe2(posix.O_CLOEXEC)
        theirs.append(said_fd)
        self.qmp = Qmp(monitor, limit_s=timeouts.seconds("DEVICE"))
        self.console = Console(self._loop, console.detach(), log_fd=console_log_fd)
        self.said = Console(self._loop, said)
        self.link_fd = link.detach()
        return list(theirs)

    def _confinement(self, cgroup: "Cgroup | None") -> confine.Confinement:
        uid = self._slot.uid if self._slot is not None else -1
        # QEMU opens /dev/kvm by its path; of all that it could be given for this, its group is the least.
        gid = accel.kvm_gid() if self.hardware.accelerator == accel.KVM else -1
        return confine.Confinement(
            uid, gid=gid, namespaces=CLONE_NEWNET | CLONE_NEWIPC, cgroup=cgroup
        )

    def _runs(self, running: confine.Running) -> None:
        self.pid, self.pidfd, self.start_time = running.pid, running.pidfd, running.start_time
        self.plugs = Plugs(self._loop, self.qmp, self.hardware.profile, shares=self.hardware.shares)
        self._loop.watch(self.pidfd, READ, lambda _: self._reap())

    def _greet(self) -> "Steps":
        limit = timeouts.seconds("DEVICE")
        try:
            yield self._loop.readable(self.qmp.fileno(), limit_s=limit, what="QEMU")
            self.qmp.begin()
        except Error as error:
            yield from self.stop()
            words = self.said.tail(1) or [str(error)]
            raise VmError(f"cannot start QEMU: {words[0]}", phase="launch") from error
        self._loop.watch(self.qmp.fileno(), READ, lambda _: self._pump())

    def _pump(self) -> None:
        """Events. When QEMU talks rubbish it is of no use, and when it has hung up it is about to end."""
        try:
            self.qmp.pump()
        except RpcError:
            self._loop.unwatch(self.qmp.fileno())
            self._loop.call_later(_QUIT_S, self.kill)

    def _reap(self) -> None:
        ended = process.wait_exit(self.pidfd, 0)
        self._loop.unwatch(self.pidfd)
        self.ended.set(ended or (255, 0))
        self.qmp.give_up()

    # while it runs

    def take_link(self) -> int:
        """Owns: the caller closes it (a Link does)."""
        fd, self.link_fd = self.link_fd, -1
        return fd

    def attach_disk(self, fd: int, *, read_only: bool) -> str:
        return self.plugs.attach_disk(fd, read_only=read_only)

    def detach_disk(self, address: str) -> "Steps":
        return self.plugs.detach_disk(address)

    def failure(self, what: str, *, phase: str) -> VmError:
        """The error for something that the guest did not do, with its last words (lifecycle 143)."""
        from skerry.errors import one_line

        lines = [one_line(line, 90) for line in self.console.last_words(4)]
        lines += [one_line(line, 90) for line in self.said.tail(1)]
        if self.ended.done:
            code, signal = self.ended.value
            how = f"killed by signal {signal}" if signal else f"exit status {code}"
            what = f"{what}: QEMU ended ({how})"
        shown = f"; console: {' | '.join(lines)}" if lines else ""
        return VmError(what + shown, phase=phase)

    # its end

    def kill(self) -> None:
        """At once; `ended` tells when it is done."""
        if self.pidfd >= 0 and not self.ended.done:
            process.send_signal(self.pidfd, 9)

    def stop(self, limit_s: float = 0) -> "Steps":
        """Wait so long for the guest to power off, if it was told to; then let QEMU quit; then kill it. Then close.

        Errors  RpcError if not even the kill ended it; it can be called again then.
        """
        if self.pidfd >= 0:
            ended = limit_s > 0 and (yield from self._wait(limit_s))
            if not ended and not self.ended.done:
                try:
                    self.qmp.execute("quit")
                except Error:
                    pass  # it hung up, as it does when it ends, or it is beyond talking
                ended = yield from self._wait(_QUIT_S)
            if not ended and not self.ended.done:
                self.kill()
                if not (yield from self._wait(timeouts.seconds("KILL"))):
                    raise RpcError(f"QEMU (process {self.pid}) does not end")
        self.close()

    def _wait(self, limit_s: float) -> "Steps":
        """Result: whether QEMU has ended."""
        waited = Future()
        self.ended.then(lambda _: waited.set())
        try:
            yield self._loop.within(waited, limit_s, "QEMU")
        except RpcError:
            return False
        return True

    def close(self) -> None:
        """Let go of everything; a QEMU that still runs is killed. The consoles' last lines stay at hand."""
        if not self.ended.done and self.pidfd >= 0:
            self.kill()
            if process.has_ended(self.pidfd, timeouts.seconds("KILL")):
                self._reap()
        if hasattr(self, "qmp"):
            self._loop.unwatch(self.qmp.fileno())
            self.qmp.close()
        for name in ("console", "said"):
            if hasattr(self, name):
                getattr(self, name).close()
        self._loop.unwatch(self.pidfd)
        close_all([fd for fd in (self.pidfd, self.link_fd) if fd >= 0])
        self.pidfd = self.link_fd = -1
        if self._slot is not None:
            self._slot.close()


def _pair(theirs: "list[int]") -> "_socket.socket":
    """A socketpair; the other end goes on the list."""
    ours, other = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    theirs.append(other.detach())
    return ours


def boot(loop: Loop, hardware: "Hardware", **options: "object") -> "Steps":
    """Start a machine from nothing: the guest boots, and its agent will say hello on the link.

    Shape   options are those of `Machine.launch`, but for memory and state.
    """
    machine = Machine(loop, hardware)
    memory_fd = new_memory(hardware.memory_mib)
    try:
        yield from machine.launch(memory_fd, **options)  # type: ignore[arg-type]
    finally:
        posix.close(memory_fd)
    return machine
