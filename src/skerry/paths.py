"""The only place that builds paths and file names of ours.

Runs in: every verb (hot).   Imports: posix; skerry.errors.
Source:  docs/lifecycle.md 1, 2, 11, 12.
Never:   opens, makes or looks at a file.

Names of ours begin with `@`; an id never becomes such a name, so the two cannot meet. An id is
written as it is where it is fit for a file name everywhere: ASCII letters, digits and `_ + - .`.
Every other byte of its UTF-8 becomes `%XX`, the dot of `.` and `..` too. What is then too long for
a name becomes `%%` and a SHA-256; the id itself stands in a file of its directory.
"""

import posix

from skerry.errors import UsageError

VERSION = "0.1.0"

RUN = "/run/skerry"
IMAGES = "/var/cache/skerry/images"  # guest images of vm isolation
DEFAULT_ROOT = "default"

# In a root
BOOT = "@boot"  # the kernel's boot id, lifecycle 13
SCRATCH = "@tmp"  # directories on their way into the store or out of it
SECCOMP_CACHE = "@seccomp"  # compiled filters, by hash
VMS = "@vm"  # a directory for each utility VM, by the UniqueID of its owner
TEMPLATES = "@templates"  # saved machines, by key

# In the run directory, for all roots
SLOTS = "@slots"  # a locked file for each user id in use by a helper

# In the directory of an id
ID = "@id"  # the id as text; whatever lacks it is no container of ours
ROOTFS = "rootfs"  # where the overlay of the layers is mounted, in the container's namespace
NOTIFY = "notify"  # what the program says by sd_notify arrives in here
GATE = "gate"  # the socket that init waits on between create and start

# In the directory of a VM; beside it one socket for each container, by its UniqueID
VMSHIM = "vmshim"

INIT = "skerry-init"
CONFIG = "config.json"

NAME_LIMIT_BYTES = 255
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-.")
_HASHED = "%%"


def version() -> str:
    return VERSION


def install_root() -> str:
    """The directory that holds the package `skerry`."""
    return _package().rpartition("/")[0]


def init_path() -> str:
    """The installed skerry-init."""
    return f"{_package()}/{INIT}"


def launch_path() -> str:
    """The script that the launcher, and whoever starts a helper, gives to the interpreter."""
    return f"{_package()}/launch.py"


def vm_dir(root: str, unique_id: str) -> str:
    """Where the sockets and files of a VM are."""
    return f"{root}/{VMS}/{unique_id}"


def _package() -> str:
    return absolute(__file__).rpartition("/")[0]


def absolute(path: str) -> str:
    """Make a path absolute against the current directory, without empty and `.` components.

    `..` stays: what it means is the kernel's to say, since what stands before it may be a link.
    """
    full = path if path.startswith("/") else f"{posix.getcwd()}/{path}"
    return "/" + "/".join(part for part in full.split("/") if part not in ("", "."))


def below(directory: str, path: str) -> str:
    """Make a path absolute: one that does not begin with a slash is below the directory."""
    return absolute(path if path.startswith("/") else f"{directory}/{path}")


def run_root(value: str = "") -> str:
    """Where the ids live: a name below the run directory, a path if there is a slash in it.

    Errors  UsageError for `/`, for a name that is none, and without XDG_RUNTIME_DIR for an ordinary
            user.
    """
    if "\0" in value:
        raise UsageError("invalid root: it contains a NUL byte")
    if "/" not in value:
        if value in (".", ".."):
            raise UsageError(f"invalid root name: {value}")
        return f"{_run_directory()}/{value or DEFAULT_ROOT}"
    path = absolute(value)
    depth: list[str] = []
    for part in path.split("/")[1:]:
        if part == "..":
            del depth[-1:]
        elif part:
            depth.append(part)
    if not depth:
        raise UsageError("Option --root argument should not be set to /")
    return path


def _run_directory() -> str:
    if posix.geteuid() == 0:
        return RUN
    base = posix.environ.get(b"XDG_RUNTIME_DIR", b"").decode("utf-8", "surrogateescape")
    if not base.startswith("/"):
        raise UsageError("cannot find the state directory: XDG_RUNTIME_DIR is not an absolute path")
    return f"{absolute(base)}/skerry"


def image_cache() -> str:
    """Where guest images lie.

    Errors  UsageError for an ordinary user without a home.
    """
    if posix.geteuid() == 0:
        return IMAGES
    for variable, below_it in ((b"XDG_CACHE_HOME", ""), (b"HOME", "/.cache")):
        base = posix.environ.get(variable, b"").decode("utf-8", "surrogateescape")
        if base.startswith("/"):
            return f"{absolute(base)}{below_it}/skerry/images"
    raise UsageError("cannot find the image cache: neither XDG_CACHE_HOME nor HOME is an absolute path")


def state_dir(root: str, id: str) -> str:
    return f"{root}/{id_name(id)}"


def id_name(id: str) -> str:
    """The file name of an id."""
    raw = id.encode("utf-8", "surrogatepass")
    if _SAFE.issuperset(raw) and id not in (".", ".."):
        name = id
    elif id in (".", ".."):
        name = "%2E" + id[1:]
    else:
        name = "".join(chr(byte) if byte in _SAFE else f"%{byte:02X}" for byte in raw)
    return name if len(name) <= NAME_LIMIT_BYTES else _HASHED + _digest(raw)


def _digest(raw: bytes) -> str:
    import hashlib

    return hashlib.sha256(raw).hexdigest()


def name_id(name: str) -> "str | None":
    """The id that a file name stands for; `""` if only its file ID says, None if the name is none
    of ours."""
    if "%" not in name:
        id = name
    elif name.startswith(_HASHED):
        return "" if len(name) == len(_HASHED) + 64 else None
    else:
        head, *escaped = name.split("%")
        try:
            raw = head.encode("ascii") + b"".join(
                bytes.fromhex(part[:2]) + part[2:].encode("ascii") for part in escaped
            )
            id = raw.decode("utf-8", "surrogatepass")
        except ValueError:
            return None
    # An id has one name only: what would be written otherwise was written by somebody else.
    return id if id and id_name(id) == name else None
