"""Where templates are written down: a directory for each key, with its facts.

Runs in: vmshim; `skerry template`.   Imports: posix, hashlib; native.keeper, state.files.
Source:  docs/vm.md "Templates".
Never:   boots anything; vm/template.py does.

The key is a hash of everything that makes one machine another: what does not match is another template, or none.
"""

import errno
import fcntl
import posix

from skerry import paths
from skerry.errors import KernelError, NotFound
from skerry.jsonio import dumps, loads
from skerry.linux import process
from skerry.linux.fd import read_all
from skerry.native import keeper
from skerry.state import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.vm.hardware import Hardware

FORMAT = 1  # of the facts, and of what a template's machine looks like
LIMIT = 8  # templates of a root: each keeps the memory of a booted guest
_FACTS, _NEW = "facts", "facts~"
_KEY_DIGITS = 32
_NUMBERS = ("pid", "start", "memory_mib", "vcpus")


class Place:
    """A key in a root."""

    __slots__ = ("key", "root")

    def __init__(self, root: str, key: str) -> None:
        self.root, self.key = root, key

    @property
    def directory(self) -> str:
        return f"{self.root}/{paths.TEMPLATES}/{self.key}"


def key_of(hardware: "Hardware") -> str:
    """Errors  KernelError for a kernel, an initramfs or a QEMU that is not there."""
    import hashlib

    document = [
        FORMAT, paths.version(), posix.geteuid(),
        *(_identity(path) for path in (hardware.program, hardware.kernel, hardware.initrd)),
        hardware.profile, hardware.memory_mib, hardware.vcpus, hardware.accelerator,
        hardware.words, hardware.parameters, len(hardware.macs),
    ]  # fmt: skip
    return hashlib.sha256(dumps(document)).hexdigest()[:_KEY_DIGITS]


def _identity(path: str) -> "list[object]":
    """A file, as long as nobody changes it."""
    try:
        status = posix.stat(path)
    except OSError as error:
        raise KernelError("open", path, error.errno or 0) from None
    return [path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]  # fmt: skip


def facts_of(hardware: "Hardware") -> "dict[str, Any]":
    return {
        "format": FORMAT,
        "kernel": hardware.kernel,
        "initrd": hardware.initrd,
        "profile": hardware.profile,
        "memory_mib": hardware.memory_mib,
        "vcpus": hardware.vcpus,
        "accelerator": hardware.accelerator,
    }


def read(place: Place) -> "dict[str, Any] | None":
    """The facts; None if there are none that we wrote."""
    try:
        fd = posix.open(f"{place.directory}/{_FACTS}", files.OPEN_FILE)
    except OSError:
        return None
    try:
        if files.foreign(posix.fstat(fd)):
            return None
        facts = loads(read_all(fd))
    except Exception:
        return None
    finally:
        posix.close(fd)
    if type(facts) is not dict or facts.get("format") != FORMAT:
        return None
    return facts if all(type(facts.get(name)) is int for name in _NUMBERS) else None


def write(place: Place, facts: "dict[str, Any]") -> None:
    directory = place.directory
    fd = posix.open(directory, files.OPEN_DIRECTORY)
    try:
        try:
            posix.unlink(_NEW, dir_fd=fd)
        except FileNotFoundError:
            pass
        files.write_new(fd, _NEW, dumps(facts))
        posix.rename(_NEW, _FACTS, src_dir_fd=fd, dst_dir_fd=fd)
    except OSError as error:
        raise KernelError("write", f"{directory}/{_FACTS}", error.errno or 0) from error
    finally:
        posix.close(fd)


def touch(place: Place) -> None:
    """It was used just now; `make_room` takes the one that was not for longest."""
    try:
        posix.utime(f"{place.directory}/{_FACTS}")
    except OSError:
        return


def open_directory(place: Place) -> int:
    """The directory, made if it is missing; whoever makes the template locks it.

    Owns    the caller closes it.
    """
    directory = place.directory
    try:
        files.make_directories(directory)
        fd = posix.open(directory, files.OPEN_DIRECTORY)
    except OSError as error:
        raise KernelError("make", directory, error.errno or 0) from error
    try:
        files.check_owner(posix.fstat(fd), directory)
    except BaseException:
        posix.close(fd)
        raise
    return fd


def keys(root: str) -> "list[str]":
    try:
        return sorted(posix.listdir(f"{root}/{paths.TEMPLATES}"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KernelError("list", f"{root}/{paths.TEMPLATES}", error.errno or 0) from error


def is_alive(facts: "dict[str, Any]") -> bool:
    return process.is_alive(facts["pid"], facts["start"])


def make_room(place: Place) -> None:
    """For one more: the one not used for longest goes, and those of which nothing is left."""
    used = []
    for key in keys(place.root):
        other = Place(place.root, key)
        facts = read(other)
        if key == place.key or facts is None:
            continue
        if is_alive(facts):
            used.append((posix.stat(f"{other.directory}/{_FACTS}").st_mtime_ns, key))
        else:
            remove(other)
    for _, key in sorted(used)[: max(0, len(used) + 1 - LIMIT)]:
        remove(Place(place.root, key))


def remove(place: Place) -> None:
    """End its keeper and forget it. One that is being made stays: its maker has the lock.

    Errors  NotFound.
    """
    if "/" in place.key or place.key in ("", ".", ".."):
        raise NotFound(place.key)
    try:
        fd = posix.open(place.directory, files.OPEN_DIRECTORY)
    except FileNotFoundError:
        raise NotFound(place.key) from None
    except OSError as error:
        raise KernelError("open", place.directory, error.errno or 0) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        facts = read(place)
        if facts is not None:
            keeper.end(facts["pid"], facts["start"])
        for name in (_FACTS, _NEW):
            try:
                posix.unlink(name, dir_fd=fd)
            except FileNotFoundError:
                pass
        posix.rmdir(place.directory)
    except BlockingIOError:
        raise KernelError("remove", f"template {place.key}", errno.EBUSY) from None
    except OSError as error:
        raise KernelError("remove", place.directory, error.errno or 0) from error
    finally:
        posix.close(fd)
