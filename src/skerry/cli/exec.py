"""skerry exec: run another process in a container.

Runs in: exec (hot).   Imports: errors, cli.call, cli.options; cli.foreground unless detached.
Source:  runc exec; lifecycle.md 94 to 98, 132.
Never:   looks a user up by name (security.md V01, V25); fills the inheritable or ambient
         capabilities (V10).
"""

from skerry.cli.call import from_here
from skerry.cli.options import Option, Verb
from skerry.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.addition import Process
    from skerry.cli.call import Call
    from skerry.container import Container

STDIO = (0, 1, 2)
# The kernel keeps 4294967295 for "no user".
USER_MAX = (1 << 32) - 2
CAPABILITY_SETS = ("bounding", "effective", "permitted")

VERB = Verb(
    "run another process in a container",
    words="<container-id> <command> [arguments]  (or: --process <file> <container-id>)",
    most=None,
    options=(
        Option(
            "console-socket",
            "unix socket that receives the master of the process's terminal",
            value="path",
        ),
        Option("cwd", "working directory in the container", value="dir"),
        Option(
            "env",
            "environment variable; the last of one name wins",
            letter="e",
            kind="texts",
            value="NAME=value",
        ),
        Option("tty", "give the process a terminal", letter="t", kind="flag"),
        Option("user", "user and group, by number", letter="u", kind="word", value="uid[:gid]"),
        Option(
            "additional-gids",
            "supplementary group, by number",
            letter="g",
            kind="integers",
            value="gid",
        ),
        Option(
            "process",
            "file with the process object of config.json; it replaces the command and the "
            "options that "
            "describe the process",
            letter="p",
            value="file",
        ),
        Option("detach", "return when the process runs", letter="d", kind="flag"),
        Option("pid-file", "write the pid of the process to this file", value="file"),
        Option("pidfd-socket", "unix socket that receives a pidfd of the process", value="path"),
        Option("process-label", "SELinux label of the process", value="label"),
        Option("apparmor", "AppArmor profile of the process", value="profile"),
        Option("no-new-privs", "the process can gain no privileges", kind="switch"),
        Option(
            "cap",
            "capability to add to the bounding, effective and permitted sets",
            letter="c",
            kind="texts",
            value="name",
        ),
        Option(
            "preserve-fds",
            "pass this many descriptors after stdio and $LISTEN_FDS on",
            kind="count",
            value="N",
        ),
        Option(
            "cgroup",
            "run in this existing cgroup below the container's",
            value="[controllers:]path",
        ),
        Option(
            "ignore-paused",
            "let the process wait in a paused container instead of refusing",
            kind="flag",
        ),
    ),
    words_end_options=True,
    about="The process is like the container's own but for what the options say. In the "
    "foreground the exit code is the "
    "process's, or 128 and the number of the signal that killed it; 255 if it could not be run.",
    example="skerry exec --tty --user 1000 web sh",
)


def main(call: "Call") -> int:
    container = call.container()
    process = _process(call, container)
    if call.options["detach"]:
        _start(call, container, process)
        return 0
    from skerry.cli.foreground import Signals, follow
    from skerry.cli.terminal import Terminal, console_size

    size = console_size() if process.get("terminal") else None
    if size:
        # The process already runs when its terminal reaches us, so the size travels ahead.
        process["consoleSize"] = size
    with Signals() as signals:
        running = _start(call, container, process)
        signals.forward()
        return follow(
            running, signals, Terminal(running.console_fd) if running.console_fd >= 0 else None
        )


def _start(call: "Call", container: "Container", process: "dict[str, Any]") -> "Process":
    options = call.options
    return container.exec(
        process,
        stdio=STDIO,
        console_socket=from_here(options["console-socket"]),
        detach=options["detach"],
        preserve_fds=options["preserve-fds"],
        pid_file=from_here(options["pid-file"]),
        cgroup=options["cgroup"],
        ignore_paused=options["ignore-paused"],
        pidfd_socket=from_here(options["pidfd-socket"]),
    )


def _process(call: "Call", container: "Container") -> "dict[str, Any]":
    """The process to run: the file's, or the container's own as the options change it.

    Source  lifecycle.md 95 to 97.
    """
    if call.options["process"]:
        from skerry.spec.load import load_process

        return load_process(from_here(call.options["process"]))
    if len(call.words) < 2:
        raise UsageError("exec args cannot be empty")
    return derive(container.spec().get("process") or {}, call.words[1:], call.options)


def derive(
    base: "dict[str, Any]", args: "list[str]", options: "dict[str, Any]", /
) -> "dict[str, Any]":
    """The process `base` with these args and what the options say; `base` is left alone."""
    process = {**base, "args": args, "terminal": options["tty"]}
    for name, key in (
        ("cwd", "cwd"),
        ("apparmor", "apparmorProfile"),
        ("process-label", "selinuxLabel"),
    ):
        if options[name]:
            process[key] = options[name]
    if options["no-new-privs"] is not None:
        process["noNewPrivileges"] = options["no-new-privs"]
    if options["env"]:
        # Environments with one name twice are read in two ways by programs, so the last one is put
        # where the first was.
        both = [*base.get("env", ()), *options["env"]]
        process["env"] = list({entry.partition("=")[0]: entry for entry in both}.values())
    if options["cap"]:
        sets = base.get("capabilities") or {}
        more = {
            name: list(dict.fromkeys([*(sets.get(name) or ()), *options["cap"]]))
            for name in CAPABILITY_SETS
        }
        process["capabilities"] = {**sets, **more}
    process["user"] = _user(base.get("user") or {}, options)
    return process


def _user(base: "dict[str, Any]", options: "dict[str, Any]") -> "dict[str, Any]":
    user = dict(base)
    if options["user"] is not None:
        user.update(zip(("uid", "gid"), user_ids(options["user"]), strict=False))
    if options["additional-gids"]:
        for gid in options["additional-gids"]:
            if not 0 <= gid <= USER_MAX:
                raise UsageError(f"cannot use group {gid}: it is not in 0..{USER_MAX}")
        user["additionalGids"] = [*(base.get("additionalGids") or ()), *options["additional-gids"]]
    return user


def user_ids(text: str, /) -> "list[int]":
    """Read `uid` or `uid:gid`. A number that wraps or is misread becomes root (V19, V25, V37)."""
    ids = []
    for word in text.split(":", 1):
        number = int(word) if word.isascii() and word.isdigit() and len(word) <= 10 else -1
        if not 0 <= number <= USER_MAX:
            raise UsageError(
                f'cannot use user "{text}": uid and gid must be decimal numbers in 0..{USER_MAX}'
            )
        ids.append(number)
    return ids
