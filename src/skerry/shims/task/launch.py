"""containerd-shim-skerry-v2: what containerd runs, with its ways of asking and of being answered.

Runs in: start, delete, -info, -v of the task shim; start goes on as the daemon.   Imports: posix, sys; .address,
         .options, .protobuf, .messages; the rest late.
Source:  containerd runtime/v2 README, api/runtime/bootstrap/v1; engines "The binary".
Never:   writes anything to standard output or error but the answer, or the one line of an error.

    start     claims the pod's socket and answers its address; if the pod has a shim, that one's, and ends
    delete    removes what is left of a container, whatever has become of its shim
    -info     what this runtime is and can do

The launcher forks for `start` and waits: this process may live on. A byte on RELEASE_FD, or our end, releases it.
"""

import posix

from skerry import paths
from skerry.errors import Error, NotFound, SpecError, UsageError, errno_text, one_line
from skerry.jsonio import dumps
from skerry.shims.task import messages, options, protobuf
from skerry.shims.task.address import FILE, Address, group

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

# flag -> takes a value
FLAGS = {
    "namespace": True,
    "id": True,
    "address": True,
    "publish-binary": True,
    "bundle": True,
    "socket": True,
    "debug": False,
    "info": False,
    "v": False,
}
RELEASE_FD = 3
STDIN_LIMIT_BYTES = 10 << 20
_S_IFMT, _S_IFIFO, _S_IFCHR, _S_IFSOCK = 0o170000, 0o10000, 0o20000, 0o140000
# the first containerd that starts shims with BootstrapParams, and so takes version 3 for an answer
_BOOTSTRAP_SINCE = (2, 3)
_DEBUG_LEVEL = -4


def run(program: str, argv: "list[str]", *, errand_fd: int = -1) -> None:
    """Be the program; in a fork of the zygote if there is an errand to answer. Does not return."""
    code = 1
    try:
        posix.umask(0o022)
        code = main(program, argv, errand_fd)
    except Exception as error:
        _say(f"{program}: {_describe(error)}\n")
    finally:
        if errand_fd >= 0:
            _release(errand_fd, code)
        posix._exit(code)


def main(program: str, argv: "list[str]", errand_fd: int = -1) -> int:
    flags, action = parse(argv)
    if flags["v"]:
        write(f"{program}:\n  Version:  {paths.version()}\n".encode())
        return 0
    isolation = options.ISOLATIONS.get(program)
    if isolation is None:
        known = ", ".join(options.ISOLATIONS)
        raise UsageError(f"cannot run as {program}: known names are {known}")
    if flags["info"]:
        from skerry.shims.task.info import info

        write(info(isolation, read_stdin()))
        return 0
    if action == "zygote":
        from skerry.shims.task import zygote

        zygote.serve(flags["address"], flags["socket"])
        return 0
    if not flags["namespace"]:
        raise UsageError("cannot run without -namespace")
    if not flags["id"]:
        raise UsageError("cannot run without -id")
    if action == "start":
        return start(program, flags, isolation, errand_fd)
    if action == "delete":
        from skerry.shims.task.removal import delete

        write(delete(flags, isolation, _spec_or_none()))
        return 0
    raise UsageError(f"cannot do {action or 'nothing'}: the actions are start and delete")


def parse(argv: "list[str]") -> "tuple[dict[str, Any], str]":
    """The flags, as Go reads them (-name value, --name=value), and the action.

    Errors  UsageError.
    """
    flags: dict[str, Any] = {name: "" if takes else False for name, takes in FLAGS.items()}
    words = iter(argv)
    for word in words:
        if word[:1] != "-" or word in ("-", "--"):
            return flags, word
        name, mark, value = word.lstrip("-").partition("=")
        if name not in FLAGS:
            raise UsageError(f"unknown flag -{name}")
        if not FLAGS[name]:
            flags[name] = value in ("", "1", "t", "T", "true", "TRUE", "True")
        else:
            found = value if mark else next(words, None)
            if found is None:
                raise UsageError(f"flag -{name} needs a value")
            flags[name] = found
    return flags, ""


# start


def start(program: str, flags: "dict[str, Any]", isolation: str, errand_fd: int) -> int:
    asked = Asked(read_stdin())
    spec = read_spec()
    place = Address(
        flags["address"],
        flags["namespace"],
        group(spec, flags["id"]),
        isolation,
        asked.params.get("socket_dir", ""),
    )
    place.debug = flags["debug"] or asked.debug
    chosen = options.read(asked.options, isolation)
    listener = place.claim()
    try:
        write_address(place)
        if listener is not None:
            if errand_fd < 0:  # the zygote's score has risen already
                _be_found_first()
            if chosen.shim_cgroup:
                _enter_cgroup(chosen.shim_cgroup)
        write(answer(place, asked))
    except BaseException:
        if listener is not None:
            place.remove()
        raise
    if listener is not None:
        _stay(program, listener, place, flags["address"], errand_fd)
    return 0


class Asked:
    """What stands on the standard input of start: nothing, options in an Any, or BootstrapParams."""

    __slots__ = ("options", "params")

    def __init__(self, data: bytes) -> None:
        self.params: dict[str, Any] = {}
        self.options: dict[str, Any] | None = None
        if not data:
            return
        try:
            params = protobuf.decode(messages.BOOTSTRAP, data)
        except Error:
            params = {"containerd_version": ""}
        if _version(params["containerd_version"]):
            self.params = params
            for extension in params["extensions"]:
                value = extension["value"]
                if value and value["type_url"].rpartition("/")[2] == options.RUNC:
                    self.options = value
            return
        self.options = protobuf.decode(messages.ANY, data)

    @property
    def speaks_v3(self) -> bool:
        return bool(_version(self.params.get("containerd_version", "")) >= _BOOTSTRAP_SINCE)

    @property
    def debug(self) -> bool:
        return bool(self.params.get("log_level", 0) <= _DEBUG_LEVEL)


def _version(text: str) -> "tuple[int, ...]":
    """v2.3.4-rc.1 -> (2, 3); () for what is no version."""
    words = text.removeprefix("v").split(".")[:2]
    return tuple(int(word) for word in words) if all(word.isdecimal() for word in words) else ()


def answer(place: Address, asked: Asked) -> bytes:
    """A bare address is version 2, which every containerd takes; 1.7 refuses 3, and looks like 2.1."""
    if not asked.speaks_v3:
        return place.uri.encode()
    return dumps({"version": 3, "address": place.uri, "protocol": "ttrpc"})


def read_spec() -> "dict[str, Any]":
    """The bundle is the current directory. A sandbox that is no container has no config.json."""
    from skerry.spec.load import load_bundle

    try:
        spec, _ = load_bundle(".")
    except SpecError:
        if _exists(paths.CONFIG):
            raise
        return {}
    return spec


def _spec_or_none() -> "dict[str, Any]":
    try:
        return read_spec()
    except Error:
        return {}


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def write_address(place: Address) -> None:
    """The file that containerd 1.6 and 1.7 look for after a restart, whole or not at all."""
    temporary = f".{FILE}.{posix.getpid()}"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC | posix.O_NOFOLLOW
    fd = posix.open(temporary, flags, 0o600)
    try:
        posix.write(fd, place.uri.encode())
    finally:
        posix.close(fd)
    posix.rename(temporary, FILE)


def _enter_cgroup(path: str) -> None:
    from skerry.native.cgroup.tree import open_cgroup, read_layout

    open_cgroup(read_layout(), path, "").attach(posix.getpid())


def _stay(
    program: str,
    listener: "_socket.socket",
    place: Address,
    grpc_address: str,
    errand_fd: int,
) -> None:
    """Become the daemon: give the caller back what is his, then serve."""
    from skerry.log import Log

    levels = ("info", "warning", "error")
    log = Log(_open_log(), "text", ("debug", *levels) if place.debug else levels)
    posix.chdir("/")
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    for fd in (0, 1, 2):
        posix.dup2(null, fd)
    posix.close(null)
    if not _release(RELEASE_FD if errand_fd < 0 else errand_fd, 0):
        # Whoever asked has given up: nobody will ever call.
        place.remove()
        return
    try:
        import gc

        from skerry.shims.task import zygote
        from skerry.shims.task.daemon import Daemon, load_everything, load_for_vms

        if place.isolation == options.VM:
            load_for_vms()
        if errand_fd < 0:
            load_everything()
            # What is there now stays: no collection needs to look at it.
            gc.collect()
            gc.freeze()
        more = [program, grpc_address, place.directory]
        Daemon(listener, place, log).run(first=lambda: zygote.begin(*more))
    except BaseException as error:
        log.error(_describe(error))
        raise


def _open_log() -> int:
    """The fifo that containerd reads; -1 if nobody does."""
    try:
        return posix.open("log", posix.O_WRONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
    except OSError:
        return -1


def _release(fd: int, code: int) -> bool:
    """Let the launcher end, and start with it. False: it is there no more."""
    try:
        if posix.fstat(fd).st_mode & _S_IFMT not in (_S_IFIFO, _S_IFSOCK):
            return True
        posix.write(fd, bytes((code,)))
        posix.close(fd)
    except BrokenPipeError:
        return False
    except OSError:
        return True
    return True


def _be_found_first() -> None:
    """When memory runs out the shim goes before containerd does."""
    try:
        fd = posix.open("/proc/self/oom_score_adj", posix.O_RDWR | posix.O_CLOEXEC)
        score = min(int(posix.read(fd, 16)) + 1, 1000)
        posix.pwrite(fd, str(score).encode(), 0)
        posix.close(fd)
    except OSError:
        return  # it stays as it was


# reading and writing


def read_stdin() -> bytes:
    """All of it; nothing if it is a terminal or other device.

    Errors  UsageError for more than containerd would send.
    """
    if posix.fstat(0).st_mode & _S_IFMT == _S_IFCHR:
        return b""
    parts, size = [], 0
    while chunk := posix.read(0, 1 << 16):
        parts.append(chunk)
        size += len(chunk)
        if size > STDIN_LIMIT_BYTES:
            raise UsageError(f"standard input has more than {STDIN_LIMIT_BYTES} bytes")
    return b"".join(parts)


def write(data: bytes) -> None:
    while data:
        data = data[posix.write(1, data) :]


def _say(text: str) -> None:
    try:
        posix.write(2, text.encode("utf-8", "backslashreplace"))
    except OSError:
        return


def _describe(error: BaseException) -> str:
    if isinstance(error, NotFound):
        return f"container does not exist: {error}"
    if isinstance(error, Error):
        return str(error)
    if isinstance(error, OSError) and error.errno:
        return one_line(f"{errno_text(error.errno)}: {error.filename or ''}")
    return one_line(f"internal error: {type(error).__name__}: {error}")
