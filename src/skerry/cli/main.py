"""The skerry command: read the global options, find the verb, call it, and end with its code.

Runs in: every verb (hot).   Imports: _signal, posix, sys, errors, cli.call, cli.options, cli.output.
Source:  lifecycle.md 134 to 136 and P; style.md 10 (why it leaves by _exit).
Never:   shows a traceback; lets an error pass without one line on standard error.
"""

import _signal  # type: ignore[import-not-found]
import posix
import sys

from skerry.cli.call import Call, Interrupted
from skerry.cli.options import Option, Verb, parse, suggest
from skerry.cli.output import write_out
from skerry.errors import UsageError
from skerry.log import SILENT, open_log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# verb -> module of this package
VERBS = {
    "create": "create",
    "start": "start",
    "run": "run",
    "exec": "exec",
    "kill": "kill",
    "delete": "delete",
    "list": "list",
    "state": "state",
    "ps": "ps",
    "pause": "pause",
    "resume": "resume",
    "update": "update",
    "events": "events",
    "spec": "spec",
    "features": "features",
    "plan": "plan",
    "resize-tty": "resize_tty",
    "create-scratch": "create_scratch",
    "prepare-disk": "prepare_disk",
    "image": "image",
    "template": "template",
    "doctor": "doctor",
}
# Hidden: what skerry starts by itself, a face of its own. Its data comes on stdin (rpc/handoff.py).
HELPERS = {"vmshim": "skerry.shims.vm", "shim": "skerry.shims.container"}
HELP_VERBS = ("help", "h")
# linux/wait.h: children that were made without SIGCHLD, and no others
_WCLONE = -0x80000000  # bit 31, as a C int
ENDING = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM)

GLOBAL_OPTIONS = (
    Option(
        "root",
        "directory for the state of containers; a NAME without a slash means /run/skerry/NAME",
        value="dir|name",
    ),
    Option("log", "append errors and warnings to this file too", value="file"),
    Option(
        "log-format", "form of the lines in the log: text or json", default="text", value="format"
    ),
    Option("debug", "log more", kind="flag"),
    Option(
        "owner",
        "owner to record for a new container; default: the owner of its state directory",
        value="name",
    ),
    Option(
        "rootless", "accepted for runc's sake: auto or false", default="auto", value="auto|false"
    ),
    Option(
        "systemd-cgroup", "refused: cgroups are made by skerry itself, not by systemd", kind="flag"
    ),
    Option("criu", "ignored, as in runc", value="path"),
    Option(
        "version",
        "show the version of skerry and of the runtime specification",
        letter="v",
        kind="flag",
    ),
)


def main(argv: "list[str]", /) -> int:
    """Do what the words after the program's name ask; return the exit code. Nothing is raised."""
    call = Call(general={}, log=SILENT)
    try:
        return _main(call, argv)
    except BaseException as error:
        from skerry.cli import failure

        return failure.report(call, error)


def run() -> None:
    """Be the program: `main` with the words of this process. Does not return."""
    code = 1
    try:
        _prepare_process()
        code = main(sys.argv[1:])
    finally:
        _reap_helper()
        # Finalising the interpreter costs 1.5 ms and has nothing left to flush.
        posix._exit(code)


def _reap_helper() -> None:
    """The launcher may have left a child that takes a lock early; it ends in a moment, and no zombie of it is left."""
    try:
        posix.waitid(posix.P_ALL, 0, posix.WEXITED | _WCLONE)
    except ChildProcessError:
        return


def _prepare_process() -> None:
    """Make definite what the caller left to chance: descriptors 0 to 2, the mask of new files, signals.

    A signal that ends programs becomes an exception, so that what is half made is undone. What the
    caller ignores stays ignored, but for SIGCHLD: without it the kernel drops the exit codes that
    we wait for. Nothing stays blocked, or we could not be stopped.
    """
    for fd in (0, 1, 2):
        try:
            posix.fstat(fd)
        except OSError:
            # The lowest free number is taken, and that is fd.
            posix.open("/dev/null", posix.O_RDWR)
            posix.set_inheritable(fd, True)
    posix.umask(0o022)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    for number in ENDING:
        if _signal.getsignal(number) in (_signal.SIG_DFL, _signal.default_int_handler):
            _signal.signal(number, _interrupt)


def _interrupt(number: int, _frame: object) -> None:
    # Once: a second one must not break into the undoing. SIGQUIT still ends it at once.
    for ending in ENDING:
        _signal.signal(ending, _signal.SIG_IGN)
    raise Interrupted(number)


def _main(call: Call, argv: "list[str]") -> int:
    call.general, rest = parse(argv, GLOBAL_OPTIONS, words_end_options=True)
    if call.general["version"] and not call.general["help"]:
        return _version()
    call.log = open_log(call.general["log"], call.general["log-format"], call.general["debug"])
    if call.general["help"] or not rest or rest[0] in HELP_VERBS:
        return _help(rest[1:] if rest else [])
    _check_general(call.general)
    if rest[0] in HELPERS:
        helper = __import__(HELPERS[rest[0]], fromlist=("main",))
        return int(helper.main(call.general, rest[1:], call.log))
    verb, module = _verb(rest[0])
    call.verb, call.table = rest[0], verb
    call.options, call.words = parse(
        rest[1:], verb.options, words_end_options=verb.words_end_options
    )
    if call.options["help"]:
        return _help([call.verb])
    verb.check_words(call.verb, call.words)
    code = module.main(call)
    call.log.close()
    return int(code)


def _verb(name: str) -> "tuple[Verb, Any]":
    if name not in VERBS:
        raise UsageError(
            f'unknown command "{name}"',
            hint=suggest(name, list(VERBS), "skerry ") or "see skerry --help",
            usage=True,
        )
    module = __import__(f"skerry.cli.{VERBS[name]}", fromlist=("VERB",))
    return module.VERB, module


def _check_general(general: "dict[str, Any]") -> None:
    if general["systemd-cgroup"]:
        raise UsageError(
            "cannot use --systemd-cgroup: skerry has no systemd cgroup driver",
            hint="set SystemdCgroup = false in containerd, --cgroup-manager cgroupfs in podman",
        )
    if general["rootless"] not in ("auto", "false"):
        raise UsageError(
            f"cannot use --rootless {general['rootless']}: only auto and false are supported"
        )


def _version() -> int:
    from skerry.paths import version
    from skerry.spec.defaults import default_spec

    write_out(f"skerry version {version()}\nspec: {default_spec()['ociVersion']}\n")
    return 0


def _help(words: "list[str]") -> int:
    from skerry.cli import help

    if not words:
        write_out(help.overview(GLOBAL_OPTIONS, {name: _verb(name)[0] for name in VERBS}))
    else:
        write_out(help.page(words[0], _verb(words[0])[0]))
    return 0
