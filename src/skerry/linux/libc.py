"""The only door to shared libraries.

Runs in: create, exec, when a seccomp filter is not in the cache; the agent.   Imports: ctypes (3 ms), late.
Source:  seccomp.h of libseccomp 2.5; mount(2), umount(2), finit_module(2), reboot(2).
Never:   runs on the hot path, or guesses an argument's width: the table has them all.
"""

import errno
import posix

from skerry.errors import EngineError, KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import CDLL

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_PIDFD_GETFD = 438  # the same on every architecture
_FINIT_MODULE = {"x86_64": 313, "aarch64": 273}
POWER_OFF, RESTART = 0x4321FEDC, 0x01234567  # linux/reboot.h

# p pointer, s string, i int, u 32 bits unsigned, v nothing; the first letter is the result
_FUNCTIONS = {
    "libseccomp.so.2": {
        "seccomp_version": "p",
        "seccomp_init": "pu",
        "seccomp_release": "vp",
        "seccomp_attr_set": "ipiu",
        "seccomp_arch_native": "u",
        "seccomp_arch_add": "ipu",
        "seccomp_arch_resolve_name": "us",
        "seccomp_syscall_resolve_name": "is",
        "seccomp_syscall_resolve_name_arch": "ius",
        "seccomp_rule_add_array": "ipuiup",
        "seccomp_export_bpf": "ipi",
    }
}


def library(name: str, *, package: str) -> "CDLL":
    """Load a library and declare its functions; they answer a negative errno by themselves.

    Errors  EngineError whose hint names the package to install.
    """
    import ctypes

    letters = {
        "p": ctypes.c_void_p,
        "s": ctypes.c_char_p,
        "i": ctypes.c_int,
        "u": ctypes.c_uint32,
        "v": None,
    }
    try:
        loaded = ctypes.CDLL(name)
        for function, types in _FUNCTIONS[name].items():
            symbol = getattr(loaded, function)
            symbol.restype, *symbol.argtypes = [letters[letter] for letter in types]
    except (OSError, AttributeError):
        raise EngineError(
            f"cannot load {name}: it is missing or too old", hint=f"install the package {package}"
        ) from None
    return loaded


def loaded_from(name: str) -> str:
    """Path of a library that this process has loaded; "" if it cannot be told."""
    stem = name.partition(".so")[0]
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            path = line[line.find("/") :].rstrip("\n") if "/" in line else ""
            if path.rpartition("/")[2].startswith(stem + ".so"):
                return path
    return ""


def become_subreaper(*, on: bool) -> None:
    """Have orphans below this process become its children, or not any more.

    Errors  KernelError.
    Source  prctl(2) PR_SET_CHILD_SUBREAPER. Python has no name for it.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [ctypes.c_ulong(n) for n in (int(on), 0, 0, 0)]
    if libc.prctl(ctypes.c_int(_PR_SET_CHILD_SUBREAPER), *arguments):
        raise KernelError("become", "a subreaper", ctypes.get_errno())


def pidfd_getfd(pidfd: int, number: int) -> int:
    """Duplicate a file descriptor of another process; close-on-exec.

    Errors  KernelError; EPERM without the right to trace the process.
    Source  pidfd_getfd(2), Linux 5.6. Python has no name for it.
    Owns    the caller closes it.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    arguments = [ctypes.c_long(n) for n in (_PIDFD_GETFD, pidfd, number, 0)]
    fd: int = libc.syscall(*arguments)
    if fd < 0:
        raise KernelError("fetch", f"fd {number} of a process", ctypes.get_errno())
    return fd


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """Errors  KernelError."""
    strings = [text.encode("utf-8", "surrogateescape") for text in (source, target, kind, data)]
    _call("mount", "mount", f"{kind or source} on {target}", *strings[:3], flags, strings[3])


def unmount(target: str, flags: int = 0) -> None:
    """Errors  KernelError."""
    _call("umount2", "unmount", target, target.encode("utf-8", "surrogateescape"), flags)


def load_module(fd: int, name: str) -> None:
    """Load a module of the kernel; one that is there already is no error.

    Errors  KernelError.
    """
    try:
        _call("syscall", "load", f"module {name}", _FINIT_MODULE[posix.uname().machine], fd, b"", 0)
    except KernelError as error:
        if error.errno != errno.EEXIST:
            raise


def reboot(command: int) -> None:
    """End the machine. Nothing is written back first.

    Errors  KernelError; it does not return otherwise.
    """
    _call("reboot", "end", "the machine", command)


def _call(function: str, verb: str, what: str, *arguments: "int | bytes") -> None:
    """Call a function of the C library that answers -1 and errno; numbers are passed as longs, bytes as pointers."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    called = getattr(libc, function)
    called.restype = ctypes.c_long if function == "syscall" else ctypes.c_int
    passed = [
        ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
        for value in arguments
    ]
    if called(*passed) < 0:
        raise KernelError(verb, what, ctypes.get_errno())
