"""The seccomp listener: fetched from the container's init, handed to the spec's listener socket.

Runs in: create (only with SCMP_ACT_NOTIFY).   Imports: _socket, posix; jsonio, linux.
Source:  runtime-spec config-linux.md "The Container Process State"; pidfd_getfd(2), seccomp_unotify(2).
Never:   answers a notification.
"""

import _socket
import posix

from skerry.errors import KernelError, SpecError
from skerry.jsonio import dumps
from skerry.linux import libc
from skerry.linux.fd import send_with_fds
from skerry.plan.request import Request

_ENAMETOOLONG = 36


def hand_over(r: Request, pid: int, pidfd: int, number: int) -> None:
    """Send the container process state with the listener.

    Errors  SpecError where the socket at /linux/seccomp/listenerPath does not listen.
    """
    seccomp = r.linux["seccomp"]
    path = seccomp["listenerPath"]
    listener = libc.pidfd_getfd(pidfd, number)
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        sock.connect(path)
        annotations = r.spec.get("annotations")
        state = {
            "ociVersion": r.spec["ociVersion"],
            "fds": ["seccompFd"],
            "pid": pid,
            "metadata": seccomp.get("listenerMetadata", ""),
            "state": {
                "ociVersion": r.spec["ociVersion"],
                "id": r.id,
                "status": "creating",
                "pid": pid,
                "bundle": r.bundle,
                **({"annotations": annotations} if annotations else {}),
            },
        }
        send_with_fds(sock, dumps(state), [listener])
    except OSError as error:
        # Without a number the path is too long for a socket's.
        number = error.errno or _ENAMETOOLONG
        cause = str(KernelError("reach", f"the seccomp listener {path}", number))
        raise SpecError("/linux/seccomp/listenerPath", cause) from error
    finally:
        sock.close()
        posix.close(listener)
