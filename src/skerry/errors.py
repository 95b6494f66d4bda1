"""The errors of skerry, one tree.

Runs in: every process; hot.   Imports: errno.
Never:   logs, prints, or knows how a face shows an error.

    Error                    .message one line, .hint optional
    +- UsageError            bad command line; the caller of the CLI mends it
    +- SpecError             .pointer .rule; raised while reading config.json; its author mends it
    +- NotFound              .id; the store has no such id; the caller
    +- NoSuchKey             .id .key; the store has the id but not this key; a programmer or a crashed writer
    +- Damaged               .id; what is stored of an id is not what skerry wrote; the administrator: delete --force
    |  +- DamagedKey         .key; the same, of one key
    +- AlreadyExists         .id; create of an id that is taken; the caller
    +- StateError            .id .status .verb; the container's status does not allow the verb; the caller
    +- KernelError (OSError) .call .what .errno; a system call made by Python failed; the administrator
    +- InitError             .process .step .call .errno .pointer; the same, reported by skerry-init
    +- HookError             a hook failed or ran out of time; the author of the hook
    +- EngineError           .id .operation; an engine could not do what the core asked
    |  +- VmError            .phase (launch, boot, device) and the last console lines
    |  +- GuestError         what the agent in the guest answered
    +- ReleaseError          .causes; some of a container's resources could not be released; delete can be run again
    +- RpcError              the peer is gone, sent a bad frame, or was too slow

The form of a message: `cannot <verb> <object>: <cause>`, lower case, no full stop. The cause is said once.
"""

import errno as _errno

MESSAGE_LIMIT_BYTES = 500
CONSOLE_LINES = 5  # of a guest's last words, in a message


def one_line(text: str, /, limit: int = MESSAGE_LIMIT_BYTES) -> str:
    """Escape what could break a line or a terminal, and cut the middle out of a long text.

    Shape   printable text without control characters, at most `limit` characters.
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if len(text) > limit:
        keep = (limit - 5) // 2
        text = f"{text[:keep]} ... {text[-keep:]}"
    return text


def errno_text(number: int, /) -> str:
    """The kernel's verdict as `ENOENT (no such file or directory)`.

    The words of these three are what docker and podman look for to choose exit codes 126 and 127.
    """
    from posix import strerror

    name = _errno.errorcode.get(number, str(number))
    return f"{name} ({strerror(number).lower()})"


class Error(Exception):
    """Every error that skerry raises on purpose. `str()` is one printable line."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = one_line(message)
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(Error):
    """The command line is wrong. `.usage`: show the verb's usage on stdout as well."""

    def __init__(self, message: str, *, usage: bool = False, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.usage = usage


class SpecError(Error):
    """config.json (or a process or resources document) breaks a rule.

    `.pointer` is the JSON pointer of the offending value, `""` for the whole document.
    """

    def __init__(self, pointer: str, rule: str, *, hint: str = "") -> None:
        super().__init__(f"{pointer}: {rule}" if pointer else rule, hint=hint)
        self.pointer = pointer
        self.rule = rule


class NotFound(Error):
    def __init__(self, id: str) -> None:
        super().__init__(f"ID '{id}' was not found")
        self.id = id


class NoSuchKey(Error):
    def __init__(self, id: str, key: str) -> None:
        super().__init__(f"state '{key}' is not present for ID '{id}'")
        self.id = id
        self.key = key


class Damaged(Error):
    def __init__(self, id: str, message: str) -> None:
        super().__init__(message)
        self.id = id


class DamagedKey(Damaged):
    def __init__(self, id: str, key: str, cause: str) -> None:
        super().__init__(id, f"cannot read state '{key}' of ID '{id}': {cause}")
        self.key = key


class AlreadyExists(Error):
    def __init__(self, id: str) -> None:
        super().__init__(f"container {id} already exists")
        self.id = id


class StateError(Error):
    def __init__(self, message: str, *, id: str, status: str, verb: str) -> None:
        super().__init__(message)
        self.id = id
        self.status = status
        self.verb = verb


class KernelError(Error, OSError):
    """A system call made by Python failed: `cannot <call> <what>: <errno>`."""

    def __init__(self, call: str, what: str, number: int, *, hint: str = "") -> None:
        Error.__init__(self, f"cannot {call} {what}: {errno_text(number)}", hint=hint)
        self.call = call
        self.what = what
        self.errno = number


class InitError(Error):
    """skerry-init reported that an operation of the plan failed."""

    def __init__(
        self,
        message: str,
        *,
        process: str = "",
        step: str = "",
        call: str = "",
        errno: int = 0,
        pointer: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.process = process
        self.step = step
        self.call = call
        self.errno = errno
        self.pointer = pointer


class HookError(Error):
    """A lifecycle hook failed: `error running <name> hook #<n>: <cause>`."""


class EngineError(Error):
    def __init__(self, message: str, *, id: str = "", operation: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.id = id
        self.operation = operation


class VmError(EngineError):
    """A virtual machine could not do what it was to. `.console`: the last lines its guest wrote."""

    def __init__(
        self, message: str, *, phase: str, console: "list[str] | None" = None, hint: str = ""
    ) -> None:
        self.phase = phase
        self.console = console or []
        shown = "".join(f" | {line}" for line in self.console[-CONSOLE_LINES:])
        super().__init__(f"{message}; console:{shown}" if shown else message, hint=hint)


class VmUnreachable(EngineError):
    """`VM <id> cannot be contacted`. `.is_late`: somebody listens, and does not answer."""

    is_late = False


class GuestError(EngineError):
    pass


class ReleaseError(Error):
    def __init__(self, causes: list[str]) -> None:
        super().__init__("failed to release one or more container resources: " + "; ".join(causes))
        self.causes = causes


class RpcError(Error):
    pass
