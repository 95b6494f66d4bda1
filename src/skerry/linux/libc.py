"""The only door to shared libraries.

Runs in: create, exec, when a seccomp filter is not in the cache.   Imports: ctypes (3 ms), late.
Source:  seccomp.h of libseccomp 2.5.
Never:   runs on the hot path, or guesses an argument's width: the table has them all.
"""

from skerry.errors import EngineError, KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import CDLL

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_PIDFD_GETFD = 438  # the same on every architecture

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
