"""How a failure ends: one table from the class of the error to the exit code and the last line.

Runs in: a verb that failed.   Imports: errors, cli.output; the rest late.
Source:  lifecycle.md 134, 135 and P; security.md 7.
Never:   prints a traceback; with --debug it goes to the log file, and only there.
"""

from skerry.cli.output import ReaderGone, write_err, write_out
from skerry.errors import Error, NotFound, UsageError, errno_text, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call

# verb -> (exit code, what stands before the message); other verbs end with 1 and the message alone
VERB_FAILURE = {
    "create": (1, "skerry create failed: "),
    "run": (1, "skerry run failed: "),
    "exec": (255, "exec failed: "),
}
OTHER_FAILURE = (1, "")

SIGNALLED, SIGINT, SIGPIPE = 128, 2, 13


def report(call: "Call", error: BaseException, /) -> int:
    """Tell the error once, on standard error and in the log file; return the exit code."""
    if isinstance(error, ReaderGone):
        return SIGNALLED + SIGPIPE
    code, text = describe(call, error)
    call.log.error(text)
    if call.general.get("log") and call.general["debug"]:
        _trace(call, error)
    if isinstance(error, UsageError) and error.usage:
        _show_usage(call)
    write_err(text + "\n")
    return code


def describe(call: "Call", error: BaseException, /) -> "tuple[int, str]":
    """The exit code and the line for an error."""
    code, prefix = VERB_FAILURE.get(call.verb, OTHER_FAILURE)
    if isinstance(error, UsageError) and error.usage:
        return 1, str(error)
    if isinstance(error, NotFound):
        return code, f"{prefix}container does not exist: {error}"
    if isinstance(error, Error):
        return code, f"{prefix}{error}"
    if isinstance(error, KeyboardInterrupt):
        return SIGNALLED + getattr(error, "signal", SIGINT), f"{prefix}interrupted"
    if isinstance(error, MemoryError):
        return code, f"{prefix}out of memory"
    if isinstance(error, OSError) and error.errno:
        return code, one_line(
            f"{prefix}{errno_text(error.errno)}{f': {error.filename}' if error.filename else ''}"
        )
    return code, one_line(f"{prefix}internal error: {type(error).__name__}: {error}")


def _show_usage(call: "Call") -> None:
    from skerry.cli import help

    try:
        write_out(help.usage(call.verb, call.table))
    except (ReaderGone, OSError):
        # The error itself still goes to standard error.
        return


def _trace(call: "Call", error: BaseException) -> None:
    import traceback

    for line in "".join(traceback.format_exception(error)).splitlines():
        call.log.debug(line)
