"""The key store: a directory for each id, a file for each key, facts that are gone after a reboot.

Runs in: every verb (hot).   Imports: posix, errno, fcntl; skerry.errors, jsonio, paths, linux.fd,
         state.files, state.keys.
Source:  docs/lifecycle.md A; rename(2), flock(2).
Never:   keeps a value in memory, syncs to a disk (it is volatile), or follows a link below its
         root.

    <root>/@boot            the kernel's boot id; with another one, or none, there are no ids here
    <root>/@tmp/<random>    what is being made (locked by its maker) or deleted
    <root>/<id>/@id         the id as text: what has it is a container's directory and never empty
    <root>/<id>/<key>       JSON

Whatever must happen at once is one rename: an id comes into being with its first keys, a key gets
its new value, an id goes. What a killed process left under `@tmp` nobody sees, and the next remove
deletes it: a directory that is in work is locked, and the kernel lets go of a lock with its owner.
"""

import errno
import fcntl
import posix

from skerry.errors import (
    AlreadyExists,
    Damaged,
    DamagedKey,
    Error,
    KernelError,
    NoSuchKey,
    NotFound,
    SpecError,
    UsageError,
)
from skerry.jsonio import dumps, loads
from skerry.linux.fd import read_all
from skerry.paths import BOOT, ID, SCRATCH, id_name, name_id
from skerry.state import files, keys

# key -> (value, who writes it and when, who clears it); there is one writer for each, and nobody
# else writes it
KEYS = {
    "state": ("record of the container", "create, first; never rewritten", "delete, last step"),
    "spec": ("config.json as loaded", "create, with state; never rewritten", "delete, last step"),
    "resources": (
        "list in order of acquisition",
        "the side that builds the container, before each acquisition",
        "the same, after the last item is released",
    ),
    "netns": ("path", "the same side, when the namespace is known", "delete"),
    "shim": ("pid and start time", "create, after the handshake succeeded", "delete"),
    "pid": ("pid and start time of init", "create, after shim", "delete"),
    "exec-<n>": (
        "pid inside, tty yes or no; <n> is the host pid of the exec's pid file",
        "the exec command, before success is reported",
        "the same writer when the exec ended; VM: its vmshim for a shim that was killed; else delete",
    ),
    "exit": (
        "code, signal, reason, time; a message if the VM has ended",
        "whoever reaps init inside skerry, once; VM: the shim, or for one that was killed its vmshim",
        "delete",
    ),
}

BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"
_ATTEMPTS = 16


class Store:
    """One root. It may not exist yet: reading finds nothing there, the first create makes it."""

    __slots__ = ("_current", "root")

    def __init__(self, root: str) -> None:
        self.root = root
        self._current = False  # once the boot id was right it stays right

    def create(self, id: str, key: str, value: object) -> None:
        """Bring an id into being with its first key; of several at once one succeeds.

        Errors  AlreadyExists; Error for a value that JSON cannot hold.
        """
        self.create_many(id, {key: value})

    def create_many(self, id: str, values: "dict[str, object]") -> None:
        """The same with several keys: all of them are there with the id."""
        if not id:
            raise UsageError("container id cannot be empty")
        contents = {keys.checked(key): dumps(value) for key, value in values.items()}
        contents[ID] = id.encode("utf-8", "surrogatepass")
        for _ in range(_ATTEMPTS):
            self._ensure_root()
            if self._create(id, contents):
                return
            self._current = False
        raise KernelError("create", f"ID '{id}'", errno.EBUSY)

    def _create(self, id: str, contents: "dict[str, bytes]") -> bool:
        """One attempt; False if a sweeper, or whoever removed the root, was quicker."""
        scratch = self._scratch()
        fd = -1
        try:
            files.make_directory(scratch)
            fd = posix.open(scratch, files.OPEN_DIRECTORY)
            # From here until the rename nobody sweeps it; before, a sweeper may have been quicker.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name, data in contents.items():
                files.write_new(fd, name, data)
            # It takes the place of an empty directory only, and one with the file ID never is.
            posix.rename(scratch, f"{self.root}/{id_name(id)}")
        except OSError as error:
            if fd >= 0:
                files.delete(fd, scratch)
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise AlreadyExists(id) from None
            if error.errno in (errno.EWOULDBLOCK, errno.ENOENT):
                return False
            raise KernelError("create", f"ID '{id}'", error.errno or 0) from error
        finally:
            if fd >= 0:
                posix.close(fd)
        return True

    def set(self, id: str, key: str, value: object) -> None:
        """Write a key; readers see the old value or the new one.

        Errors  NotFound; Error for a value that JSON cannot hold.
        """
        keys.checked(key)
        data = dumps(value)
        fd = self.directory(id)
        temporary = f"@{_random()}"
        try:
            files.write_new(fd, temporary, data)
            posix.rename(temporary, key, src_dir_fd=fd, dst_dir_fd=fd)
        except FileNotFoundError:  # the id was removed since
            raise NotFound(id) from None
        except OSError as error:
            files.unlink(fd, temporary)
            raise KernelError("write", f"state '{key}' of ID '{id}'", error.errno or 0) from error
        finally:
            posix.close(fd)

    def get(self, id: str, key: str) -> object:
        """Read a key.

        Errors  NotFound; NoSuchKey; DamagedKey for a file that is not one of ours, whole.
        """
        keys.checked(key)
        fd = self.directory(id)
        try:
            data = keys.read(fd, id, key)
        except NoSuchKey:
            self._check_named(fd, id)  # the keys of an id that is being removed go one by one
            raise
        finally:
            posix.close(fd)
        try:
            return loads(data)
        except SpecError as error:
            raise DamagedKey(id, key, error.rule) from error

    def clear(self, id: str, key: str) -> None:
        """Take a key away.

        Errors  NotFound; NoSuchKey.
        """
        keys.checked(key)
        fd = self.directory(id)
        try:
            posix.unlink(key, dir_fd=fd)
        except FileNotFoundError:
            self._check_named(fd, id)
            raise NoSuchKey(id, key) from None
        except OSError as error:
            raise KernelError("clear", f"state '{key}' of ID '{id}'", error.errno or 0) from error
        finally:
            posix.close(fd)

    def remove(self, id: str) -> None:
        """Take the id away at once, then delete all that lay in its directory, readable or not.

        Errors  NotFound. What cannot be deleted (a mount lies on it) is left for the next remove.
        """
        self._bury(id, self.directory(id))

    def discard(self, id: str) -> None:
        """The same for an id whose directory is not fit to be used: nothing in it is read.

        Errors  NotFound.
        """
        self._bury(id, self._open(id))

    def _bury(self, id: str, fd: int) -> None:
        grave = self._scratch()
        try:
            files.ensure_directory(f"{self.root}/{SCRATCH}")
            posix.rename(f"{self.root}/{id_name(id)}", grave)
            files.delete(fd, grave)
        except FileNotFoundError:
            raise NotFound(id) from None
        except OSError as error:
            raise KernelError("remove", f"ID '{id}'", error.errno or 0) from error
        finally:
            posix.close(fd)
        files.sweep(f"{self.root}/{SCRATCH}")

    def ids(self) -> "list[str]":
        """All ids, sorted; entries that are none of ours are skipped."""
        if not self._is_current():
            return []
        found = []
        for name in self._names():
            id = name_id(name)
            if id is None:
                continue
            try:
                posix.stat(f"{self.root}/{name}/{ID}", follow_symlinks=False)
                found.append(id or self._long_id(name))
            except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
                continue
            except OSError as error:
                raise KernelError("read", f"ID '{id}'", error.errno or 0) from error
        found.sort()
        return found

    def directory(self, id: str) -> int:
        """Open the directory of an id.

        Errors  NotFound; Damaged if somebody else could write there.
        Owns    the caller closes it.
        """
        fd = self._open(id)
        cause = files.foreign(posix.fstat(fd))
        if cause:
            posix.close(fd)
            raise Damaged(id, f"cannot use the directory of ID '{id}': {cause}")
        return fd

    def _open(self, id: str) -> int:
        if not id or not self._is_current():
            raise NotFound(id)
        try:
            fd = posix.open(f"{self.root}/{id_name(id)}", files.OPEN_DIRECTORY)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise NotFound(id) from None
            raise KernelError("open", f"ID '{id}'", error.errno or 0) from error
        try:
            # In a directory that happens to lie in the root, `/etc/ssl` for `--root /etc`, there is
            # no file ID.
            posix.stat(ID, dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            posix.close(fd)
            if error.errno == errno.ENOENT:
                raise NotFound(id) from None
            raise KernelError("open", f"ID '{id}'", error.errno or 0) from error
        return fd

    def lock(self, id: str) -> int:
        """Wait for the exclusive lock of an id; closing the descriptor gives it back.

        Errors  NotFound, also if the id was removed while we waited, or removed and created again.
        Owns    the caller closes it.
        """
        fd = self.directory(id)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            self._check_named(fd, id)
        except NotFound:
            posix.close(fd)
            raise
        except OSError as error:
            posix.close(fd)
            raise KernelError("lock", f"ID '{id}'", error.errno or 0) from error
        return fd

    def _check_named(self, fd: int, id: str) -> None:
        """Raise NotFound unless the open directory still is the one that has the id's name.

        A lock is on the directory, not on its name: who waited for it may hold that of a removed
        one, while the id has been created again.
        """
        held = posix.fstat(fd)
        try:
            named = posix.stat(f"{self.root}/{id_name(id)}", follow_symlinks=False)
        except FileNotFoundError:
            raise NotFound(id) from None
        if (held.st_dev, held.st_ino) != (named.st_dev, named.st_ino):
            raise NotFound(id)

    def _scratch(self) -> str:
        return f"{self.root}/{SCRATCH}/{_random()}"

    def _names(self) -> "list[str]":
        """Entries that could be ids; a link is none, as `directory` follows none."""
        try:
            with posix.scandir(self.root) as entries:
                return [
                    entry.name
                    for entry in entries
                    if not entry.name.startswith("@") and entry.is_dir(follow_symlinks=False)
                ]
        except OSError as error:
            raise KernelError("read", self.root, error.errno or 0) from error

    def _long_id(self, name: str) -> str:
        fd = posix.open(f"{self.root}/{name}/{ID}", files.OPEN_FILE)
        try:
            return read_all(fd).decode("utf-8", "surrogatepass")
        finally:
            posix.close(fd)

    def _is_current(self) -> bool:
        """Whether the ids in this root are of this boot of the kernel."""
        if not self._current:
            recorded = self._recorded_boot()
            self._current = recorded != b"" and recorded == _boot_id()
        return self._current

    def _recorded_boot(self) -> bytes:
        try:
            root = posix.stat(self.root)
            files.check_owner(root, f"the root {self.root}")
            return files.read_small(f"{self.root}/{BOOT}")
        except (FileNotFoundError, NotADirectoryError):
            return b""
        except Error:
            raise
        except OSError as error:
            raise KernelError("read", self.root, error.errno or 0) from error

    def _ensure_root(self) -> None:
        """Make the root, or take it over from the boot before."""
        if self._is_current():
            return
        try:
            files.make_directories(self.root)
            fd = posix.open(self.root, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                files.ensure_directory(f"{self.root}/{SCRATCH}")
                if not self._is_current():  # nobody was quicker
                    self._take_over(fd)
            finally:
                posix.close(fd)
        except Error:
            raise
        except OSError as error:
            raise KernelError("make", f"the root {self.root}", error.errno or 0) from error

    def _take_over(self, root_fd: int) -> None:
        """Bury what an earlier boot left, then record this one, in this order."""
        for name in self._names():
            if files.exists(f"{self.root}/{name}/{ID}"):
                posix.rename(f"{self.root}/{name}", self._scratch())
        files.sweep(f"{self.root}/{SCRATCH}")
        files.unlink(root_fd, f"{BOOT}~")
        files.write_new(root_fd, f"{BOOT}~", _boot_id())
        posix.rename(f"{BOOT}~", BOOT, src_dir_fd=root_fd, dst_dir_fd=root_fd)


def _boot_id() -> bytes:
    try:
        return files.read_small(BOOT_ID_FILE)
    except OSError as error:
        raise KernelError("read", BOOT_ID_FILE, error.errno or 0) from error


def _random() -> str:
    return posix.getrandom(8).hex()
