"""What a machine is made of, decided: no default is left open, nothing is looked up later.

Runs in: vmshim, template builder.   Imports: vm.accel, vm.devices.
Source:  docs/vm.md "The machine"; vm/settings.py is what was asked for.
Never:   opens anything.
"""

from skerry.errors import VmError
from skerry.vm import accel, devices
from skerry.vm.confine import BASE_UID
from skerry.vm.programs import uid_base

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from skerry.log import Log
    from skerry.vm.settings import Settings

HYPERVISOR = "/usr/bin/qemu-system-x86_64"


class Hardware:
    """
    profile, memory_mib, vcpus, accelerator   of devices.py; the accelerator is decided, too
    program, parameters     QEMU, and what the operator adds to its arguments
    kernel, initrd, words   files of the host; words are added to the kernel's command line
    macs                    of the interfaces that are there from the start
    shares                  it can take shares, so its memory can be seen by another process
    uid_base                QEMU's user is this one or one of those that follow
    """

    __slots__ = (
        "accelerator", "initrd", "kernel", "macs", "memory_mib", "parameters", "profile", "program", "shares",
        "uid_base", "vcpus", "words",
    )  # fmt: skip

    def __init__(
        self,
        kernel: str,
        initrd: str,
        *,
        profile: str = devices.SMALL,
        memory_mib: int = 256,
        vcpus: int = 1,
        accelerator: str = accel.TCG,
        program: str = HYPERVISOR,
        parameters: "Sequence[str]" = (),
        words: "Sequence[str]" = (),
        macs: "Sequence[str]" = (),
        shares: bool = False,
        uid_base: int = BASE_UID,
    ) -> None:
        if profile not in devices.PROFILES:
            raise VmError(f'cannot build a machine: unknown profile "{profile}"', phase="launch")
        if shares and profile == devices.SMALL:
            raise VmError("cannot build a machine: a microvm takes no shares", phase="launch")
        self.profile, self.memory_mib, self.vcpus = profile, memory_mib, vcpus
        self.accelerator, self.program, self.parameters = accelerator, program, list(parameters)
        self.kernel, self.initrd, self.words = kernel, initrd, list(words)
        self.macs, self.shares, self.uid_base = list(macs), shares, uid_base

    @property
    def khz(self) -> int:
        """KVM tells the guest its clock; TCG does not, and then most boots of a microvm hang."""
        return accel.clock_khz() if self.accelerator == accel.TCG else 0


def decide(
    settings: "Settings", *, macs: "Sequence[str]" = (), shares: bool = False, log: "Log"
) -> Hardware:
    """The hardware for the settings, whose kernel and initrd are known by now.

    A profile that was not chosen is the small one, unless shares are wanted.
    """
    choice = accel.choose(settings.accelerator)
    if choice.why:
        log.info(f"the VM is emulated without KVM: {choice.why}")
    return Hardware(
        settings.kernel,
        settings.initrd,
        profile=settings.profile or (devices.Q35 if shares else devices.SMALL),
        memory_mib=settings.memory_mib,
        vcpus=settings.vcpus,
        accelerator=choice.name,
        program=settings.hypervisor or HYPERVISOR,
        parameters=settings.hypervisor_parameters,
        words=settings.kernel_parameters,
        macs=macs,
        shares=shares,
        uid_base=uid_base(),
    )
