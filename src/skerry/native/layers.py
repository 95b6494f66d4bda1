"""The layers of a container on the host: what must be right about them, and what the scratch lacks.

Runs in: create of a container with layers.   Imports: posix; errors, linux.fd.
Source:  overlayfs.rst; docs/lifecycle.md 36.
Never:   mounts (plan/rootfs.py does), writes to a layer, or takes anything from the scratch.
"""

import posix

from skerry.errors import KernelError, SpecError, errno_text

UPPER, WORK = "upper", "work"
_POINTER = "/annotations/run.skerry.layers"
_S_IFMT, _S_IFDIR = 0o170000, 0o040000


def check(layers: "list[str]") -> None:
    """Every layer must be a directory, and the scratch too: a disk is for a virtual machine.

    Errors  SpecError.
    """
    for path in layers:
        try:
            mode = posix.stat(path).st_mode
        except (OSError, ValueError) as error:
            cause = errno_text(getattr(error, "errno", 22))
            raise SpecError(_POINTER, f"cannot open {path}: {cause}") from None
        if mode & _S_IFMT != _S_IFDIR:
            hint = "a scratch disk needs a virtual machine" if path == layers[-1] else ""
            raise SpecError(_POINTER, f"{path} is not a directory", hint=hint)


def prepare(layers: "list[str]") -> None:
    """Make the two directories in the scratch that an overlay wants; those of an earlier use are used again.

    The upper one shows as the container's root, so a new one is as the root of the topmost layer.
    """
    scratch = layers[-1]
    try:
        root = posix.stat(layers[0])
        _make(f"{scratch}/{WORK}", 0o700, 0, 0)
        _make(f"{scratch}/{UPPER}", root.st_mode & 0o7777, root.st_uid, root.st_gid)
    except OSError as error:
        raise KernelError("prepare", f"the scratch {scratch}", error.errno or 0) from error


def _make(path: str, mode: int, uid: int, gid: int) -> None:
    try:
        posix.mkdir(path, 0o700)
    except FileExistsError:
        return
    posix.chown(path, uid, gid)
    posix.chmod(path, mode)
