"""The log: one line for each event, in the two forms that engines read.

Runs in: every verb (hot).   Imports: posix, time; _json where a line is written; skerry.errors.
Source:  the forms of logrus, which containerd, podman and docker parse; docs/lifecycle.md 134.
Never:   fails a verb, blocks on a reader, or prints the final error (the face does that).

A line is one write to a file opened for appending: several processes may share it, and no line is
torn. Without a file only warnings are shown (and debug lines if asked for): what is not an error is
nobody's business at a terminal.
"""

import posix
import time

from skerry.errors import KernelError, UsageError

_OPEN_LOG = (
    posix.O_WRONLY
    | posix.O_CREAT
    | posix.O_APPEND
    | posix.O_CLOEXEC
    | posix.O_NOCTTY
    # A fifo without a reader, or a reader that stopped, must not stop us.
    | posix.O_NONBLOCK
)
_STDERR = 2


def _text(level: str, message: str, now: str) -> str:
    from _json import encode_basestring_ascii

    # JSON's escapes are Go's, which is what logrus quotes by: \" \\ \n \t \uXXXX.
    return f'time="{now}" level={level} msg={encode_basestring_ascii(message)}\n'


def _json_line(level: str, message: str, now: str) -> str:
    from _json import encode_basestring_ascii

    quoted = encode_basestring_ascii(message)
    return f'{{"level":"{level}","msg":{quoted},"time":"{now}"}}\n'


# name of the option -> how a line looks
FORMATS = {"text": _text, "json": _json_line}


class Log:
    """An open log; `close` it, or leave it to the end of the process."""

    __slots__ = ("_fd", "_form", "_levels", "format")

    def __init__(self, fd: int, form: str, levels: "tuple[str, ...]") -> None:
        self._fd = fd
        self.format = form
        self._form = FORMATS[form]
        self._levels = levels

    def debug(self, message: str) -> None:
        self._write("debug", message)

    def info(self, message: str) -> None:
        self._write("info", message)

    def warning(self, message: str) -> None:
        self._write("warning", message)

    def error(self, message: str) -> None:
        self._write("error", message)

    def options(self) -> "list[str]":
        """The command line's words for a helper that is to log likewise (lifecycle 61)."""
        debug = ["--debug"] if "debug" in self._levels else []
        return ["--log-format", self.format, *debug]

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd > _STDERR:
            posix.close(fd)

    def _write(self, level: str, message: str) -> None:
        if self._fd < 0 or level not in self._levels:
            return
        # Local time would read the zone's file on first use.
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        try:
            posix.write(self._fd, self._form(level, message, now).encode())
        except OSError:  # a full disk or a closed stderr is not what the verb is about
            return


SILENT = Log(-1, "text", ())


def open_log(path: str = "", format: str = "text", debug: bool = False) -> Log:
    """Open the log of `--log`, or the warnings on stderr if there is none.

    Errors  UsageError for an unknown format; KernelError if the file cannot be opened.
    """
    if format not in FORMATS:
        raise UsageError(f"invalid log-format: {format}")
    verbose = ("debug", "info") if debug else ()
    if not path:
        return Log(_STDERR, format, (*verbose, "warning"))
    try:
        fd = posix.open(path, _OPEN_LOG, 0o600)
    except OSError as error:
        raise KernelError("open", f"log {path}", error.errno or 0) from error
    return Log(fd, format, (*(verbose or ("info",)), "warning", "error"))
