"""Making a container: from the bundle to the gate, or back to nothing.

Runs in: create, run (hot).   Imports: posix, time; errors, spec, state, pod, native.create.
Source:  docs/lifecycle.md B to E; the table of keys in state/store.py.
Never:   leaves a trace of a failed create; if one cannot be removed, it stays on record for delete.
"""

import posix
import time

from skerry import paths
from skerry.engine import Options
from skerry.errors import Error, NotFound, UsageError
from skerry.linux import process
from skerry.pod import Place, find_place, share_network
from skerry.spec import annotations
from skerry.spec.load import load_bundle
from skerry.spec.validate import check_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.container import Container
    from skerry.log import Log
    from skerry.native.create import Creation
    from skerry.state.store import Store
    from skerry.vm.shim import Built

_UNIQUE_BYTES = 16
_ENAMETOOLONG = 36


class Wishes:
    """The caller's arguments of Container.create."""

    __slots__ = (
        "console_socket", "detach", "host", "isolation", "network_from", "new_keyring", "no_pivot", "notify", "owner",
        "pid_file", "pidfd_socket", "preserve_fds", "shim_log", "stdio", "vm_console", "vm_log",
    )  # fmt: skip

    def __init__(self) -> None:
        self.owner = self.isolation = self.host = self.network_from = ""
        self.stdio = (0, 1, 2)
        self.console_socket = self.pid_file = self.pidfd_socket = ""
        self.detach = self.new_keyring = True
        self.no_pivot = self.notify = False
        self.preserve_fds = 0
        self.shim_log = self.vm_log = self.vm_console = ""


def create(
    cls: "type[Container]",
    store: "Store",
    id: str,
    bundle: str,
    spec: "dict[str, Any] | None",
    wishes: Wishes,
    log: "Log",
) -> "Container":
    """Container.create."""
    bundle = paths.absolute(bundle)
    if not _is_unicode(bundle):
        raise UsageError(f"cannot use bundle {bundle}: its path is not UTF-8")
    if spec is None:
        spec, _ = load_bundle(bundle)
    for warning in check_spec(spec, isolation_flag=wishes.isolation):
        log.warning(warning)
    has_terminal = bool((spec.get("process") or {}).get("terminal"))
    check_console(has_terminal, wishes.console_socket, detach=wishes.detach)
    place = find_place(store, id, spec, isolation=wishes.isolation, host=wishes.host)
    spec = share_network(store, spec, wishes.network_from, log)
    record = _record(store, id, bundle, spec, place, wishes)
    if wishes.notify:
        spec, wishes.notify = _offer_socket(store, id, spec, place, log)
    container = cls(store, id, record, log)
    options = _options(spec, wishes, bundle, has_terminal)
    container.engine.refuse(options, pidfd_socket=bool(wishes.pidfd_socket))
    store.create_many(id, {"state": record, "spec": spec})
    try:
        if wishes.notify:
            from skerry.readiness import make_directory

            make_directory(container)
        creation = container.engine.create(spec, record, options)
        _settle(container, creation, wishes)
    except BaseException:
        _undo(container)
        raise
    return container


def _offer_socket(
    store: "Store", id: str, spec: "dict[str, Any]", place: Place, log: "Log"
) -> "tuple[dict[str, Any], bool]":
    """The spec with a socket for sd_notify, and whether there is one: not in a VM, nor without a program."""
    if place.isolation != "process":
        log.warning("NOTIFY_SOCKET is ignored: a socket of the host does not reach into a VM")
        return spec, False
    if not spec.get("process"):
        return spec, False
    from skerry.readiness import offer

    return offer(spec, f"{paths.state_dir(store.root, id)}/{paths.NOTIFY}"), True


def _is_unicode(path: str) -> bool:
    """The state is JSON; a byte that is none of UTF-8 comes as half a surrogate pair."""
    return path.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in path)


def check_console(terminal: bool, socket: str, *, detach: bool) -> None:  # noqa: FBT001
    """Errors  UsageError with runc's words."""
    if terminal and detach and not socket:
        raise UsageError("cannot allocate tty if skerry will detach without setting console socket")
    if socket and not (terminal and detach):
        raise UsageError("cannot use console socket if skerry will not detach or allocate tty")


def hand_over(path: str, fd: int, name: str) -> None:
    """Send an fd to the socket of an engine, as runc does.

    Errors  KernelError where nobody listens.
    """
    import _socket

    from skerry.errors import KernelError
    from skerry.linux.fd import send_with_fds

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        sock.connect(path)
        send_with_fds(sock, name.encode(), [fd])
    except OSError as error:
        # Without a number the path is too long for a socket's.
        raise KernelError("send", f"{name} to {path}", error.errno or _ENAMETOOLONG) from error
    finally:
        sock.close()


def write_pid_file(path: str, pid: int) -> None:
    """Decimal, no newline, whole or not at all (docs/lifecycle.md 63).

    Errors  Error.
    """
    temporary = f"{path}.{posix.getrandom(6).hex()}"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC | posix.O_NOFOLLOW
    try:
        fd = posix.open(temporary, flags, 0o644)
        try:
            posix.write(fd, str(pid).encode())
            posix.fchmod(fd, 0o644)
        finally:
            posix.close(fd)
        posix.rename(temporary, path)
    except OSError as error:
        from skerry.errors import KernelError

        _discard(temporary)
        raise KernelError("write", f"pid file {path}", error.errno or 0) from error


def _discard(path: str) -> None:
    try:
        posix.unlink(path)
    except OSError:
        return


def rfc3339(nanoseconds: int) -> str:
    """Not by strftime, which reads the host's time zone first."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    year, month, day, hour, minute, second, *_ = time.gmtime(seconds)
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{rest:09}Z"


def inherited_fds(preserve: int) -> "tuple[int, list[str]]":
    """(fds from 3 up that go to the program, strings for its environment) of LISTEN_FDS and --preserve-fds.

    Source  sd_listen_fds(3): valid only if LISTEN_PID is us.
    """
    count = posix.environ.get(b"LISTEN_FDS", b"")
    if not count.isdigit() or posix.environ.get(b"LISTEN_PID", b"") != str(posix.getpid()).encode():
        return preserve, []
    return preserve + int(count), [f"LISTEN_FDS={int(count)}", "LISTEN_PID=1"]


def user_name(uid: int) -> str:
    """Who owns the state directory: a name, or `#<uid>` without one (docs/lifecycle.md 136)."""
    if uid == 0:
        return "root"
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _options(spec: "dict[str, Any]", wishes: Wishes, bundle: str, terminal: bool) -> Options:  # noqa: FBT001
    options = Options()
    options.stdio = wishes.stdio
    options.console = terminal
    options.preserve, options.extra_env = inherited_fds(wishes.preserve_fds)
    options.no_pivot = wishes.no_pivot
    options.new_keyring = wishes.new_keyring
    options.layers = annotations.layer_paths(spec.get("annotations") or {}, bundle)
    options.shim_log, options.vm_log = wishes.shim_log, wishes.vm_log
    options.vm_console = wishes.vm_console
    return options


def _record(
    store: "Store",
    id: str,
    bundle: str,
    spec: "dict[str, Any]",
    place: Place,
    wishes: Wishes,
) -> "dict[str, Any]":
    """The key `state`: facts that every later verb needs, so that none has to read the spec."""
    pid = posix.getpid()
    namespaces = {
        e["type"]: e.get("path") or "" for e in (spec.get("linux") or {}).get("namespaces") or ()
    }
    unique = posix.getrandom(_UNIQUE_BYTES).hex()
    hooks = spec.get("hooks") or {}
    root = (spec.get("root") or {}).get("path") or ""
    if annotations.layers(spec.get("annotations") or {}):
        rootfs = f"{paths.state_dir(store.root, id)}/{paths.ROOTFS}"
    else:
        rootfs = paths.below(bundle, root)
    return {
        "ID": id,
        "Owner": wishes.owner or user_name(posix.geteuid()),
        "SandboxID": place.sandbox_id,
        "HostID": place.host_id,
        "IsHost": place.is_host,
        "UniqueID": unique,
        "HostUniqueID": unique if place.is_host else place.host_unique_id,
        "Bundle": bundle,
        "Created": rfc3339(time.time_ns()),
        "Rootfs": rootfs,
        "NetworkNamespace": namespaces.get("network"),
        "Isolation": place.isolation,
        "Creator": {"pid": pid, "start": process.start_time(pid)},
        "OciVersion": spec["ociVersion"],
        "Annotations": spec.get("annotations") or {},
        "Hooks": {name: hooks[name] for name in ("poststart", "poststop") if hooks.get(name)},
        "PrivatePid": namespaces.get("pid") == "",
    }


def _settle(container: "Container", creation: "Creation | Built", wishes: Wishes) -> None:
    """Init is ready: put it on record, tell whoever asked, then let it go to the gate."""
    dialogue = creation.dialogue
    if dialogue is None:
        raise Error("cannot create the container: skerry-init is not there")
    store, id = container.store, container.id
    try:
        _keep_network(container, dialogue.pid, dialogue.pidfd)
        if dialogue.console_fd >= 0 and wishes.console_socket:
            hand_over(wishes.console_socket, dialogue.console_fd, "/dev/ptmx")
            posix.close(dialogue.console_fd)
            dialogue.console_fd = -1
        if wishes.pidfd_socket:
            hand_over(wishes.pidfd_socket, dialogue.pidfd, "pidfd")
        who = {"pid": dialogue.pid, "start": dialogue.start_time}
        store.set(id, "shim", who)
        if creation.facts is not None:
            store.set(id, "pid", {**who, **creation.facts})
        if wishes.pid_file:
            write_pid_file(wishes.pid_file, dialogue.pid)
        creation.finish()
    except BaseException:
        dialogue.abort()
        raise
    container.take_init(dialogue.pidfd, dialogue.console_fd)


def _keep_network(container: "Container", pid: int, pidfd: int) -> None:
    """The key `netns`, for those who will share it (docs/lifecycle.md 37-39)."""
    path = container.engine.keep_network(container.record, pid, pidfd)
    if path:
        container.store.set(container.id, "netns", path)


def _undo(container: "Container") -> None:
    """Back to nothing; what cannot be released stays on record, so that delete can be run again.

    Where this process lives on, only the key `exit` can tell that it creates no more.
    """
    from skerry.deletion import forget

    try:
        try:
            forget(container)
        except NotFound:
            # A forced delete has not waited for us. What was made since is in no journal but ours, unless the id
            # has been taken again: then the names are another's.
            if container.id not in container.store.ids():
                container.engine.release_own()
    except Error as error:
        container.log.warning(f"cannot undo the create of container {container.id}: {error}")
        container.record_end(255, 0, "create failed")
