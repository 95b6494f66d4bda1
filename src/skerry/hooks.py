"""Hooks of the spec that run on the host: one after the other, each with its time, its output kept
short.

Runs in: create, start, delete (hot where the spec has hooks).
Imports: _signal, posix, select, time; skerry.errors, jsonio, linux.fd, linux.process.
Source:  runtime-spec config.md "POSIX-platform Hooks"; docs/lifecycle.md 129; runc's words for what
         went wrong.
Never:   enters a namespace: createContainer and startContainer hooks are skerry-init's part.

A hook is an arbitrary program. It gets a group of its own, so that its children go with it when its
time is up; the state as a sealed file on stdin, so that one which does not read it, or reads
slowly, concerns nobody; a pipe for its output, which is read until the hook itself has ended, not
until the last child that keeps it open has.
"""

import _signal  # type: ignore[import-not-found]
import posix
import select
import time

from skerry.errors import HookError, KernelError, one_line
from skerry.jsonio import dumps
from skerry.linux import process
from skerry.linux.fd import memfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

OUTPUT_LIMIT_BYTES = 512
_READ_BYTES = 65536
_SIGKILL = 9
_ENDING = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM)


def run_host_hooks(
    name: str,
    hooks: "list[dict[str, Any]]",
    state: "dict[str, Any]",
    *,
    warn: "Callable[[str], object] | None" = None,
) -> None:
    """Run the hooks of one kind in their order.

    Shape   hooks as in the spec: path, args, env (ours if absent), timeout.
    Units   timeout in seconds; without one a hook has all the time it takes.
    Errors  HookError at the first that fails, `error running <name> hook #<n>: <cause>`; with
            `warn` that is told the text instead, and the next hook runs.
    """
    if not hooks:
        return
    document = dumps(state)
    for number, hook in enumerate(hooks):
        try:
            cause = _run(hook, document)
        except KernelError as error:
            cause = error.message
        if not cause:
            continue
        text = f"error running {name} hook #{number}: {cause}"
        if warn is None:
            raise HookError(text)
        warn(one_line(text))


def _run(hook: "dict[str, Any]", document: bytes) -> str:
    """Run one; what went wrong, or ""."""
    path = hook["path"]
    if not path.startswith("/"):
        return f"the path {path} is not absolute"
    env = hook.get("env")
    timeout_s = hook.get("timeout")
    stdin = memfd("state", document)
    reader = writer = -1
    # An interrupt is an exception in our callers: between the start of the hook and the moment somebody
    # answers for it, none may come.
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _ENDING)
    try:
        reader, writer = posix.pipe2(posix.O_CLOEXEC)
        pid = process.spawn(
            path,
            hook.get("args") or [path],
            posix.environ if env is None else env,
            {0: stdin, 1: writer, 2: writer},
            own_group=True,
            close_others=True,
        )
        posix.close(writer)
        writer = -1
        return _watch(pid, reader, timeout_s, mask)
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        for fd in (stdin, reader, writer):
            if fd >= 0:
                posix.close(fd)


def _watch(pid: int, reader: int, timeout_s: "int | None", mask: "set[int]") -> str:
    """Keep the output short until the hook has ended or its time is up; reap it in any case.

    `mask` are the signals that were blocked before the hook was started.
    """
    pidfd = process.child_pidfd(pid)
    ended = False
    try:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        output, ended = _collect(pidfd, reader, timeout_s)
        if not ended:
            return f"hook ran past specified timeout of {float(timeout_s or 0)}s{_quoted(output)}"
        status = process.wait_exit(pidfd)
    finally:
        if not ended:
            # Not reaped, so the number is still its own, and the group's; it may have left that.
            _kill_group(pid)
            process.send_signal(pidfd, _SIGKILL)
            process.wait_exit(pidfd)
        posix.close(pidfd)
    return _verdict(status, output)


def _collect(pidfd: int, reader: int, timeout_s: "int | None") -> "tuple[bytes, bool]":
    """Read until the hook has ended; the first bytes of the output, and whether it has."""
    poller = select.poll()
    # In this order, in which poll looks: what a hook has written is in the pipe before it ends. A
    # child that it left behind may hold the pipe open, so there is no waiting for the pipe's end.
    poller.register(pidfd, select.POLLIN)
    poller.register(reader, select.POLLIN)
    kept = b""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        rest_ms = None if deadline is None else (deadline - time.monotonic()) * 1000
        if rest_ms is not None and rest_ms <= 0:
            return kept, False
        # Rounded up, or the last millisecond would be spent spinning.
        ready = dict(poller.poll(None if rest_ms is None else int(rest_ms) + 1))
        if reader in ready:
            chunk = posix.read(reader, _READ_BYTES)
            kept += chunk[: OUTPUT_LIMIT_BYTES - len(kept)]
            if not chunk:
                poller.unregister(reader)
        if pidfd in ready:
            return kept, True


def _kill_group(pid: int) -> None:
    try:
        posix.kill(-pid, _SIGKILL)
    except ProcessLookupError:
        return


def _verdict(status: "tuple[int, int] | None", output: bytes) -> str:
    if status is None:
        return "its status was lost: SIGCHLD is ignored here"
    code, signal = status
    if signal:
        return f"killed by signal {signal}{_quoted(output)}"
    return f"exit status {code}{_quoted(output)}" if code else ""


def _quoted(output: bytes) -> str:
    text = output.decode("utf-8", "backslashreplace").strip()
    return f", output: {text}" if text else ""
