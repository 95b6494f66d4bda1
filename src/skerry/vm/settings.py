"""What a VM is to be: sizes, programs and files, from the spec, its annotations and the administrator.

Runs in: create, vmshim, the template builder.   Imports: posix; errors, jsonio.
Source:  config-vm.md; docs/lifecycle.md 32, 89, 155; docs/vm.md "Settings".
Never:   takes a path or a program from a tenant's annotation, or from a file that others can write.
"""

import posix

from skerry.errors import Error, KernelError, SpecError
from skerry.jsonio import escape, loads
from skerry.spec.annotations import VM_SETTINGS, is_tenant
from skerry.spec.vm import refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CONFIG_PATH = "/etc/skerry/config.json"
_CONFIG_LIMIT_BYTES = 1024 * 1024

DEFAULT_MEMORY_MIB, DEFAULT_VCPUS = 1024, 2
LEAST_MEMORY_MIB = 256  # with CPython as its pid 1 a guest lives in no less
PROFILES = ("microvm", "q35")
ACCELERATORS = ("auto", "kvm", "tcg")
_MIB = 1024 * 1024


class Settings:
    """Everything that the machine needs to know. All of it survives `to_json` and `from_json`.

    kernel, initrd, hypervisor   paths; "" means the one that skerry has or finds
    image, image_format          a root disk of the vm section; "" is none
    *_parameters                 further arguments, from the spec's vm section
    profile                      "" is for the vmshim to choose (docs/vm.md "The machine")
    template                     whether a clone may be started
    console_path                 --vm-console: a file or socket that gets the guest's console
    """

    __slots__ = (
        "accelerator", "console_path", "hypervisor", "hypervisor_parameters", "image", "image_cache", "image_format",
        "initrd", "kernel", "kernel_parameters", "memory_mib", "profile", "template", "vcpus",
    )  # fmt: skip

    def __init__(self) -> None:
        self.memory_mib, self.vcpus = DEFAULT_MEMORY_MIB, DEFAULT_VCPUS
        self.hypervisor = self.kernel = self.initrd = ""
        self.image = self.image_format = self.image_cache = ""
        self.hypervisor_parameters: list[str] = []
        self.kernel_parameters: list[str] = []
        self.profile = ""
        self.accelerator = "auto"
        self.template = True
        self.console_path = ""

    def to_json(self) -> "dict[str, Any]":
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, document: object) -> "Settings":
        """Errors  Error for a document of another version."""
        settings = cls()
        if type(document) is not dict or set(document) != set(cls.__slots__):
            raise Error("cannot read the settings of the VM: they are another version's")
        for name in cls.__slots__:
            if type(document[name]) is not type(getattr(settings, name)):
                raise Error(f"cannot read the settings of the VM: {name} is of the wrong type")
            setattr(settings, name, document[name])
        return settings


def load_config(path: str = CONFIG_PATH) -> "dict[str, Any]":
    """The administrator's file; {} without one.

    Shape   {"vm": {"annotations": [names], "hypervisor", "kernel", "initrd", "imageCache", "uidBase", ...}}
    Errors  Error if somebody else than root may have written it.
    """
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise KernelError("open", path, error.errno or 0) from error
    try:
        status = posix.fstat(fd)
        if status.st_uid != 0 or status.st_mode & 0o022:
            raise Error(f"cannot use {path}: others than root can write it")
        if status.st_size > _CONFIG_LIMIT_BYTES:
            raise Error(f"cannot use {path}: it is longer than {_CONFIG_LIMIT_BYTES} bytes")
        document = loads(posix.read(fd, _CONFIG_LIMIT_BYTES))
    except SpecError as error:
        raise Error(f"cannot use {path}: {error}") from error
    finally:
        posix.close(fd)
    if type(document) is not dict or type(document.get("vm", {})) is not dict:
        raise Error(f"cannot use {path}: it is not an object with objects")
    return document


def choose(
    spec: "dict[str, Any]", config: "dict[str, Any]", warn: "Callable[[str], object]"
) -> Settings:
    """Defaults, then the administrator's file, then the spec's `vm` section, then permitted annotations.

    Errors  SpecError at the annotation or property.
    """
    settings = Settings()
    administrator = config.get("vm") or {}
    for key, name in (
        ("hypervisor", "hypervisor"), ("kernel", "kernel"), ("initrd", "initrd"), ("imageCache", "image_cache"),
        ("accelerator", "accelerator"), ("template", "template"), ("memory", "memory_mib"), ("vcpus", "vcpus"),
    ):  # fmt: skip
        if key in administrator:
            if type(administrator[key]) is not type(getattr(settings, name)):
                raise Error(f"cannot use {CONFIG_PATH}: /vm/{key} is of the wrong type")
            setattr(settings, name, administrator[key])
    _read_section(spec.get("vm") or {}, settings)
    _read_annotations(spec.get("annotations") or {}, administrator.get("annotations") or [], settings)
    _fit(settings, warn)
    return settings


def _read_section(section: "dict[str, Any]", settings: Settings) -> None:
    """The spec's `vm` section; its form has been checked (spec/vm.py)."""
    refuse(section)
    hypervisor, kernel, image = (section.get(key) or {} for key in ("hypervisor", "kernel", "image"))
    settings.hypervisor = hypervisor.get("path") or settings.hypervisor
    settings.hypervisor_parameters = list(hypervisor.get("parameters") or ())
    settings.kernel = kernel.get("path") or settings.kernel
    settings.kernel_parameters = list(kernel.get("parameters") or ())
    settings.initrd = kernel.get("initrd") or settings.initrd
    settings.image, settings.image_format = image.get("path") or "", image.get("format") or ""
    hardware = section.get("hwConfig") or {}
    settings.vcpus = hardware.get("vcpus") or settings.vcpus
    if hardware.get("memory"):
        settings.memory_mib = -(-hardware["memory"] // _MIB)


def _read_annotations(
    annotations: "dict[str, str]", permitted: "list[str]", settings: Settings
) -> None:
    for name, (attribute, kind) in VM_SETTINGS.items():
        if name not in annotations:
            continue
        pointer = f"/annotations/{escape(name)}"
        if is_tenant(annotations) and name not in permitted:
            rule = "not permitted in a pod: the administrator has not listed it"
            raise SpecError(pointer, rule)
        setattr(settings, attribute, _value(annotations[name], kind, pointer))


def _value(text: str, kind: str, pointer: str) -> object:
    if kind == "number":
        if not (text.isascii() and text.isdigit() and 0 < len(text) <= 7 and int(text)):
            raise SpecError(pointer, f"{text!r} is not a number above 0")
        return int(text)
    if kind == "boolean":
        if text not in ("true", "false"):
            raise SpecError(pointer, f"{text!r} is not true or false")
        return text == "true"
    if kind == "profile":
        if text not in PROFILES:
            raise SpecError(pointer, f"{text!r} is not one of {', '.join(PROFILES)}")
        return text
    return text


def _fit(settings: Settings, warn: "Callable[[str], object]") -> None:
    """Even megabytes, no fewer than the guest needs; no more CPUs than the host has."""
    wanted = settings.memory_mib
    settings.memory_mib = max(LEAST_MEMORY_MIB, wanted + wanted % 2)
    if settings.memory_mib != wanted:
        warn(f"the VM gets {settings.memory_mib} MB of memory instead of {wanted}")
    cpus = posix.cpu_count() or 1
    if settings.vcpus > cpus:
        # The default of two is not a wish.
        if settings.vcpus != DEFAULT_VCPUS:
            warn(f"the VM gets {cpus} CPUs instead of {settings.vcpus}: the host has no more")
        settings.vcpus = cpus
