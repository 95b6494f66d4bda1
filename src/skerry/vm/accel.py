"""Which accelerator: KVM where it really works, else TCG.

Runs in: vmshim, template builder, doctor.   Imports: posix.
Source:  docs/vm.md "Accelerator": a KVM device that opens proves nothing; without the processor's flags guests hang.
Never:   overrules an explicit choice.
"""

import posix

KVM_DEVICE = "/dev/kvm"
KVM, TCG, AUTO = "kvm", "tcg", "auto"
CHOICES = (AUTO, KVM, TCG)
# (file, kHz for one of what it counts)
_BASE_FREQUENCIES = (
    ("/sys/devices/system/cpu/cpu0/cpufreq/base_frequency", 1),
    ("/sys/devices/system/cpu/cpu0/acpi_cppc/nominal_freq", 1000),
)
_FLAGS = {"x86_64": ("vmx", "svm"), "aarch64": ()}


class Choice:
    """The accelerator, and why KVM is not it ("" where it is, or was not asked about)."""

    __slots__ = ("name", "why")

    def __init__(self, name: str, why: str) -> None:
        self.name, self.why = name, why


def choose(wanted: str = AUTO) -> Choice:
    if wanted != AUTO:
        return Choice(wanted, "")
    why = why_not_kvm()
    return Choice(TCG if why else KVM, why)


def why_not_kvm() -> str:
    """What keeps us from KVM, "" if nothing."""
    try:
        posix.close(posix.open(KVM_DEVICE, posix.O_RDWR | posix.O_CLOEXEC))
    except OSError as error:
        return f"{KVM_DEVICE}: {posix.strerror(error.errno or 0).lower()}"
    flags = _FLAGS.get(posix.uname().machine, ())
    if flags and not set(flags) & cpu_flags():
        return f"{KVM_DEVICE} opens, but the processor has none of the flags {', '.join(flags)}"
    return ""


def kvm_gid() -> int:
    """The group that QEMU needs for the device, -1 if everybody may open it. QEMU opens it by itself."""
    status = posix.stat(KVM_DEVICE)
    return -1 if status.st_mode & 0o006 == 0o006 else status.st_gid


def cpu_flags() -> "set[str]":
    return set(_cpu_field("flags").split())


def clock_khz() -> int:
    """The rate of the processor's time stamp counter, about; 0 if it cannot be told.

    The base frequency is what the counter runs at: where a driver or the firmware tells it, else as part of the model's
    name, else what the processor runs at now.
    """
    for path, factor in _BASE_FREQUENCIES:
        try:
            with open(path) as file:
                return int(file.read()) * factor
        except (OSError, ValueError):
            continue
    name, at, rate = _cpu_field("model name").rpartition("@ ")
    text = rate.removesuffix("GHz") if at else ""
    try:
        return int(float(text) * 1_000_000) if text else int(float(_cpu_field("cpu MHz")) * 1000)
    except ValueError:
        return 0


def _cpu_field(name: str) -> str:
    """Of the first processor; "" where there is no such line."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                key, colon, value = line.partition(":")
                if colon and key.strip() == name:
                    return value.strip()
    except OSError:
        pass
    return ""
