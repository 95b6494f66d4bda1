"""seccomp filters, compiled by libseccomp.

Runs in: create, exec; the tables are hot, compiling is not.   Imports: posix; linux.libc late.
Source:  seccomp.h of libseccomp 2.5; linux/seccomp.h, linux/audit.h of Linux 6.18.
Never:   loads a filter into this process.
"""

import posix

from skerry.errors import EngineError, errno_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import CDLL

LIBRARY, PACKAGE = "libseccomp.so.2", "libseccomp2 (Debian) or libseccomp (Fedora)"

# name -> (value, largest number that libseccomp lets ride in its low bits; 0: none can)
ACTIONS = {
    "SCMP_ACT_KILL": (0x00000000, 0),
    "SCMP_ACT_KILL_THREAD": (0x00000000, 0),
    "SCMP_ACT_KILL_PROCESS": (0x80000000, 0),
    "SCMP_ACT_TRAP": (0x00030000, 0),
    "SCMP_ACT_ERRNO": (0x00050000, 4094),
    "SCMP_ACT_TRACE": (0x7FF00000, 65535),
    "SCMP_ACT_ALLOW": (0x7FFF0000, 0),
    "SCMP_ACT_LOG": (0x7FFC0000, 0),
    "SCMP_ACT_NOTIFY": (0x7FC00000, 0),
}

# The kernel runs what these let through, so that it answers for a call it does not know.
PERMISSIVE = {"SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"}

OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}

FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
FLAG_NEW_LISTENER, FLAG_TSYNC_ESRCH = 8, 16

# name -> the name libseccomp resolves
ARCHITECTURES = {
    "SCMP_ARCH_X86": b"x86",
    "SCMP_ARCH_X86_64": b"x86_64",
    "SCMP_ARCH_X32": b"x32",
    "SCMP_ARCH_ARM": b"arm",
    "SCMP_ARCH_AARCH64": b"aarch64",
    "SCMP_ARCH_LOONGARCH64": b"loongarch64",
    "SCMP_ARCH_M68K": b"m68k",
    "SCMP_ARCH_MIPS": b"mips",
    "SCMP_ARCH_MIPS64": b"mips64",
    "SCMP_ARCH_MIPS64N32": b"mips64n32",
    "SCMP_ARCH_MIPSEL": b"mipsel",
    "SCMP_ARCH_MIPSEL64": b"mipsel64",
    "SCMP_ARCH_MIPSEL64N32": b"mipsel64n32",
    "SCMP_ARCH_PPC": b"ppc",
    "SCMP_ARCH_PPC64": b"ppc64",
    "SCMP_ARCH_PPC64LE": b"ppc64le",
    "SCMP_ARCH_S390": b"s390",
    "SCMP_ARCH_S390X": b"s390x",
    "SCMP_ARCH_SH": b"sh",
    "SCMP_ARCH_SHEB": b"sheb",
    "SCMP_ARCH_PARISC": b"parisc",
    "SCMP_ARCH_PARISC64": b"parisc64",
    "SCMP_ARCH_RISCV64": b"riscv64",
}

ARGUMENTS = 6
_ATTRIBUTE_OPTIMIZE, _BINARY_TREE = 8, 2
_EEXIST = 17


class Compiled:
    """What libseccomp made.

    filter    8-byte instructions, native order
    ignored   names of system calls that the library does not know
    last      architecture token -> the highest number of a system call that a rule names there,
              where there is one
    """

    __slots__ = ("filter", "ignored", "last")

    def __init__(self, filter: bytes, ignored: "list[str]", last: "dict[int, int]") -> None:
        self.filter = filter
        self.ignored = ignored
        self.last = last


def _library() -> "CDLL":
    from skerry.linux import libc

    return libc.library(LIBRARY, package=PACKAGE)


def version() -> "tuple[int, int, int]":
    import ctypes

    address = _library().seccomp_version()
    major, minor, micro = (ctypes.c_uint * 3).from_address(address)
    return major, minor, micro


def supported_architectures() -> "list[str]":
    """The names of the table that the installed library knows."""
    library = _library()
    return [name for name, word in ARCHITECTURES.items() if library.seccomp_arch_resolve_name(word)]


def compile_filter(
    default: int,
    architectures: "list[str]",
    rules: "list[tuple[str, int, list[tuple[int, int, int, int]]]]",
    *,
    binary_tree: bool,
) -> Compiled:
    """Let libseccomp make a filter for the native architecture and the given ones.

    Shape   rules: (system call name, action, [(argument, operator, value, second value)]); the
            conditions of one rule must all hold. A rule that says what the default says is left
            out, for libseccomp refuses it.
    Errors  EngineError; the library's verdict.
    """
    library = _library()
    context = library.seccomp_init(default)
    if not context:
        raise EngineError("cannot make a seccomp filter: libseccomp refuses the default action")
    try:
        tokens = [library.seccomp_arch_native()]
        for name in architectures:
            token = library.seccomp_arch_resolve_name(ARCHITECTURES[name])
            if not token:
                raise EngineError(f"cannot make a seccomp filter: libseccomp does not know {name}")
            _check(library.seccomp_arch_add(context, token), f"add {name}", allowed=_EEXIST)
            tokens.append(token)
        if binary_tree:
            # Older libraries refuse it; the filter is then a list, slower and the same.
            library.seccomp_attr_set(context, _ATTRIBUTE_OPTIMIZE, _BINARY_TREE)
        ignored, last = _add_rules(library, context, tokens, default, rules)
        return Compiled(_export(library, context), ignored, last)
    finally:
        library.seccomp_release(context)


def _add_rules(
    library: "CDLL",
    context: int,
    tokens: "list[int]",
    default: int,
    rules: "list[tuple[str, int, list[tuple[int, int, int, int]]]]",
) -> "tuple[list[str], dict[int, int]]":
    import ctypes

    class Condition(ctypes.Structure):
        _fields_ = [
            ("argument", ctypes.c_uint),
            ("operator", ctypes.c_int),
            ("value", ctypes.c_uint64),
            ("second", ctypes.c_uint64),
        ]

    ignored: list[str] = []
    last: dict[int, int] = {}
    for name, action, conditions in rules:
        word = name.encode()
        # Negative: a call of another architecture, which gets its rule there. Only -1 is unknown.
        number = library.seccomp_syscall_resolve_name(word)
        if number == -1:
            ignored.append(name)
            continue
        if action != default:
            array = (Condition * len(conditions))(*(Condition(*item) for item in conditions))
            result = library.seccomp_rule_add_array(context, action, number, len(conditions), array)
            _check(result, f"add a rule for {name}")
        for token in tokens:
            there = library.seccomp_syscall_resolve_name_arch(token, word)
            if there > last.get(token, 0):
                last[token] = there
    return ignored, last


def _export(library: "CDLL", context: int) -> bytes:
    fd = posix.memfd_create("seccomp", 1)  # MFD_CLOEXEC
    try:
        _check(library.seccomp_export_bpf(context, fd), "export it")
        size = posix.fstat(fd).st_size
        return posix.pread(fd, size, 0)
    finally:
        posix.close(fd)


def _check(result: int, what: str, *, allowed: int = 0) -> None:
    if result < 0 and result != -allowed:
        raise EngineError(f"cannot make a seccomp filter: {what}: {errno_text(-result)}")
