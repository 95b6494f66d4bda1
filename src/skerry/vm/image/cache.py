"""Where images lie, and how one gets there: whole, or not at all.

Runs in: skerry image, vmshim.   Imports: fcntl, hashlib, os; errors, jsonio, paths.
Source:  rename(2), flock(2).
Never:   follows a link, or uses an image that somebody else than its owner could have written.
"""

import fcntl
import hashlib
import os

from skerry import paths
from skerry.errors import Error, KernelError
from skerry.jsonio import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KERNEL, INITRAMFS, FACTS = "vmlinux", "initramfs", "facts.json"
_LOCK = "@lock"
_KEY_DIGITS = 32


class Image:
    """An image in a cache.

    kernel, initramfs   paths of the files
    facts               stamp release kernel python skerry modules
    """

    __slots__ = ("directory", "facts", "initramfs", "kernel", "key")

    def __init__(self, directory: str, facts: "dict[str, Any]") -> None:
        self.directory = directory
        self.key = os.path.basename(directory)
        self.kernel = f"{directory}/{KERNEL}"
        self.initramfs = f"{directory}/{INITRAMFS}"
        self.facts = facts

    def size_bytes(self) -> int:
        return sum(os.stat(path).st_size for path in (self.kernel, self.initramfs))


def directory(cache: str) -> str:
    return cache or paths.image_cache()


def images(cache: str) -> "tuple[Image, ...]":
    """All images, by key; what is none is skipped.

    Errors  Error where others could have written them.
    """
    place = directory(cache)
    try:
        _check_owner(place)
        keys = sorted(name for name in os.listdir(place) if not name.startswith("@"))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise KernelError("read", place, error.errno or 0) from error
    found = (_read(f"{place}/{key}") for key in keys)
    return tuple(image for image in found if image is not None)


def find(cache: str, stamp: str) -> "Image | None":
    """The image that was made from parts with this fingerprint."""
    for image in images(cache):
        if image.facts.get("stamp") == stamp:
            return image
    return None


def _read(place: str) -> "Image | None":
    try:
        with open(f"{place}/{FACTS}", "rb") as file:
            facts = loads(file.read())
        for name in (KERNEL, INITRAMFS):
            os.stat(f"{place}/{name}")
    except (OSError, Error):
        return None
    return Image(place, facts) if type(facts) is dict else None


def _check_owner(place: str) -> None:
    status = os.stat(place)
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        raise Error(f"cannot use the image cache {place}: others could write it")


class Writer:
    """One build: holds the cache's lock, so that two at once do not do the work twice. Use as a context."""

    __slots__ = ("_lock", "_place", "_temporary")

    def __init__(self, cache: str) -> None:
        self._place = directory(cache)
        self._temporary = f"{self._place}/@{os.urandom(8).hex()}"
        self._lock = -1

    def __enter__(self) -> "Writer":
        try:
            _make_directories(self._place)
            _check_owner(self._place)
            self._lock = os.open(
                f"{self._place}/{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._sweep()
            os.mkdir(self._temporary, 0o755)
        except OSError as error:
            raise KernelError("make", f"the image cache {self._place}", error.errno or 0) from error
        return self

    def __exit__(self, *_: object) -> None:
        _remove(self._temporary)
        os.close(self._lock)

    def path(self, name: str) -> str:
        """Where to write a file of the new image."""
        return f"{self._temporary}/{name}"

    def finish(self, facts: "dict[str, Any]") -> Image:
        """Put the image under its key; one of that key is there already if its parts were the same."""
        digest = hashlib.sha256()
        for name in (KERNEL, INITRAMFS):
            with open(self.path(name), "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
                os.fsync(file.fileno())
        target = f"{self._place}/{digest.hexdigest()[:_KEY_DIGITS]}"
        with open(self.path(FACTS), "wb") as file:
            file.write(dumps(facts) + b"\n")
        if _read(target) is None:
            _remove(target)
            os.rename(self._temporary, target)
        else:
            os.rename(self.path(FACTS), f"{target}/{FACTS}")
        return Image(target, facts)

    def _sweep(self) -> None:
        """What killed builds left; nobody else works here while we have the lock."""
        for name in os.listdir(self._place):
            if name.startswith("@") and name != _LOCK:
                _remove(f"{self._place}/{name}")


def _make_directories(path: str) -> None:
    if not os.path.isdir(path):
        _make_directories(os.path.dirname(path))
        os.mkdir(path, 0o755)


def _remove(place: str) -> None:
    """An image's directory, whole or half made; there are only files in it."""
    try:
        for name in os.listdir(place):
            os.unlink(f"{place}/{name}")
        os.rmdir(place)
    except FileNotFoundError:
        return
