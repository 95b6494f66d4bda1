"""Storages of a container: disks, overlays, shares, files, each below its own directory.

Runs in: the guest, in workers.   Imports: errno, posix, select, time, binascii; errors, linux.
Source:  docs/vm.md "Storages"; docs/security.md V44, V45, V50; overlayfs, virtiofs, erofs of the kernel.
Never:   follows a link, leaves /run/skerry/storage, or walks through a mount, whose content may be the container's.

    /run/skerry/storage/<container>/<at>
"""

import binascii
import errno
import posix
import select
import stat
import time

from skerry.errors import EngineError, Error, KernelError
from skerry.linux import libc, mountinfo
from skerry.linux.fd import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

ROOT = "/run/skerry/storage"
_SCSI = "/sys/bus/scsi/devices"
_DISK_WAIT_S, _UNMOUNT_WAIT_S = 20, 10
_NAP_MS = 5
_FILE_LIMIT_BYTES = 1024 * 1024
_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
_MS_RDONLY = 1
_UMOUNT_NOFOLLOW = 8
_DISK_KINDS = ("erofs", "ext4")


class Storages:
    """The storages of one container. `mount` makes one, `release` undoes all."""

    __slots__ = ("_container", "_device", "_fd", "_path")

    def __init__(self, container: str, *, root: str = ROOT) -> None:
        """Make the container's directory, or open it."""
        parent = _ensure_path(root)
        try:
            self._fd = _enter(parent, _checked(container))
        finally:
            posix.close(parent)
        self._container = container
        self._path = f"{root}/{container}"
        self._device = posix.fstat(self._fd).st_dev

    def close(self) -> None:
        posix.close(self._fd)

    def mount(self, storage: "dict[str, Any]") -> None:
        """Errors  Error that names the storage."""
        kind, at = storage.get("kind"), storage.get("at")
        if kind not in _KINDS or type(at) is not str:
            raise EngineError(f"cannot use a storage of kind {kind}", id=self._container)
        try:
            _KINDS[kind](self, storage)
        except OSError as error:
            cause = error if isinstance(error, Error) else KernelError("make", at, error.errno or 0)
            raise EngineError(
                f"cannot make the storage {at} ({kind}): {cause}", id=self._container
            ) from error

    def release(self) -> None:
        """Unmount everything below the directory, last first, and remove it.

        Errors  KernelError for what is still in use; it can be tried again.
        """
        prefix = f"{self._path}/"
        points = [mount.point for mount in mountinfo.read() if mount.point.startswith(prefix)]
        for point in reversed(points):
            _unmount(point)
        _empty(self._fd, self._device)
        parent = posix.open(self._path.rpartition("/")[0], _DIRECTORY)
        try:
            posix.rmdir(self._container, dir_fd=parent)
        except OSError as error:
            raise KernelError("remove", self._path, error.errno or 0) from error
        finally:
            posix.close(parent)

    def undo(self) -> None:
        """After a failure, which is what is told; what cannot be released now is left to `delete`."""
        try:
            self.release()
        except Error:
            return

    # kinds

    def _disk(self, storage: "dict[str, Any]") -> None:
        kind = storage.get("fs")
        if kind not in _DISK_KINDS:
            raise EngineError(f"cannot mount a disk with {kind}", id=self._container)
        device = f"/dev/{_disk_name(storage['address'])}"
        flags = _MS_RDONLY if storage.get("read_only") or kind == "erofs" else 0
        self._mount_at(storage["at"], device, kind, flags)

    def _share(self, storage: "dict[str, Any]") -> None:
        flags = _MS_RDONLY if storage.get("read_only") else 0
        nap = select.poll()
        deadline = time.monotonic() + _DISK_WAIT_S
        while True:
            try:
                self._mount_at(storage["at"], str(storage["tag"]), "virtiofs", flags)
                return
            except KernelError as error:
                # A tag that it does not know yet: it comes a moment after the host has attached it.
                if error.errno != errno.EINVAL or time.monotonic() > deadline:
                    raise
            nap.poll(_NAP_MS)

    def _overlay(self, storage: "dict[str, Any]") -> None:
        """Layers by names relative to the directory: absolute ones would soon fill the page that mount(2) takes."""
        for at in (*storage["lower"], storage["upper"]):
            _parts(at)
        upper = self._open(storage["upper"])
        try:
            for name in ("upper", "work"):
                posix.close(_enter(upper, name))
        finally:
            posix.close(upper)
        # A worker is here, whose directory is nobody else's.
        posix.fchdir(self._fd)
        try:
            data = (
                f"lowerdir={':'.join(storage['lower'])},"
                f"upperdir={storage['upper']}/upper,workdir={storage['upper']}/work"
            )
            self._mount_at(storage["at"], "overlay", "overlay", 0, data)
        finally:
            posix.chdir("/")

    def _file(self, storage: "dict[str, Any]") -> None:
        content = binascii.a2b_base64(storage["content"])
        if len(content) > _FILE_LIMIT_BYTES:
            raise EngineError(f"cannot write {storage['at']}: it is too long", id=self._container)
        parent, name = self._parent(storage["at"])
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
        try:
            fd = posix.open(name, flags, 0o600, dir_fd=parent)
            try:
                write_all(fd, content)
                posix.fchmod(fd, int(storage.get("mode", 0o644)) & 0o7777)
            finally:
                posix.close(fd)
        finally:
            posix.close(parent)

    def _directory(self, storage: "dict[str, Any]") -> None:
        fd = self._make(storage["at"])
        try:
            posix.fchmod(fd, int(storage.get("mode", 0o755)) & 0o7777)
        finally:
            posix.close(fd)

    def _block(self, storage: "dict[str, Any]") -> None:
        device = posix.stat(f"/dev/{_disk_name(storage['address'])}", follow_symlinks=False)
        parent, name = self._parent(storage["at"])
        try:
            posix.mknod(name, stat.S_IFBLK | 0o600, device.st_rdev, dir_fd=parent)
        finally:
            posix.close(parent)

    # places

    def _mount_at(self, at: str, source: str, kind: str, flags: int, data: str = "") -> None:
        fd = self._make(at)
        try:
            libc.mount(source, f"/proc/self/fd/{fd}", kind, flags, data)
        except KernelError as error:
            raise KernelError("mount", f"{source} ({kind})", error.errno or 0) from error
        finally:
            posix.close(fd)

    def _make(self, at: str) -> int:
        """A directory of ours, made with those above it."""
        parent, name = self._parent(at)
        try:
            return self._own(_enter(parent, name), at)
        finally:
            posix.close(parent)

    def _parent(self, at: str) -> "tuple[int, str]":
        *above, name = _parts(at)
        fd = posix.dup(self._fd)
        for part in above:
            try:
                inner = self._own(_enter(fd, part), at)
            finally:
                posix.close(fd)
            fd = inner
        return fd, name

    def _own(self, fd: int, at: str) -> int:
        """The fd again, if it is of our own file system: not what lies in a mount."""
        if posix.fstat(fd).st_dev != self._device:
            posix.close(fd)
            raise EngineError(f"cannot make {at}: it is inside another storage", id=self._container)
        return fd

    def _open(self, at: str) -> int:
        """The root of a storage that is mounted already."""
        fd = posix.dup(self._fd)
        for part in _parts(at):
            try:
                inner = posix.open(part, _DIRECTORY, dir_fd=fd)
            finally:
                posix.close(fd)
            fd = inner
        return fd


_KINDS: "dict[str, Callable[[Storages, dict[str, Any]], None]]" = {
    "disk": Storages._disk,
    "overlay": Storages._overlay,
    "share": Storages._share,
    "file": Storages._file,
    "directory": Storages._directory,
    "block": Storages._block,
}


def _checked(part: str) -> str:
    if part in ("", ".", "..") or "/" in part or "\0" in part:
        raise EngineError(f"cannot use {part!r} as the name of a storage")
    return part


def _parts(at: str) -> "list[str]":
    """Names of a relative path; `:` and `,` would mean something to overlayfs."""
    if ":" in at or "," in at or "\\" in at:
        raise EngineError(f"cannot use {at!r} as the name of a storage")
    return [_checked(part) for part in at.split("/")]


def _enter(parent: int, name: str) -> int:
    """Open a directory, made if it is not there; a link is refused."""
    try:
        posix.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        pass
    return posix.open(name, _DIRECTORY, dir_fd=parent)


def _ensure_path(path: str) -> int:
    fd = posix.open("/", _DIRECTORY)
    for part in path.strip("/").split("/"):
        try:
            inner = _enter(fd, part)
        finally:
            posix.close(fd)
        fd = inner
    return fd


def _disk_name(address: str) -> str:
    """`sda` for `<target>:<lun>`; hot-plugged disks come a moment after the host has attached them.

    Errors  EngineError when it does not come.
    """
    nap = select.poll()
    deadline = time.monotonic() + _DISK_WAIT_S
    while time.monotonic() < deadline:
        for device in posix.listdir(_SCSI):
            # <host>:<channel>:<target>:<lun>; the controller has one channel
            if device.partition(":")[2] == f"0:{address}":
                try:
                    for name in posix.listdir(f"{_SCSI}/{device}/block"):
                        # The node is there before the disk can be opened (ENXIO).
                        posix.close(posix.open(f"/dev/{name}", posix.O_RDONLY | posix.O_CLOEXEC))
                        return name
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENXIO):
                        raise
        nap.poll(_NAP_MS)
    raise EngineError(f"cannot find the disk {address}: the kernel of the guest does not see it")


def _unmount(point: str) -> None:
    """Unmount; the last process of a container may still be on its way out."""
    nap = select.poll()
    deadline = time.monotonic() + _UNMOUNT_WAIT_S
    while True:
        try:
            libc.unmount(point, _UMOUNT_NOFOLLOW)
            return
        except KernelError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        nap.poll(_NAP_MS)


def _empty(directory: int, device: int) -> None:
    """Remove what is in a directory, without entering a mount or a link."""
    for name in posix.listdir(directory):
        status = posix.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            posix.unlink(name, dir_fd=directory)
            continue
        if status.st_dev != device:
            raise KernelError("remove", name, errno.EBUSY)
        inner = posix.open(name, _DIRECTORY, dir_fd=directory)
        try:
            _empty(inner, device)
        finally:
            posix.close(inner)
        posix.rmdir(name, dir_fd=directory)
