"""skerry kill: send a signal to a container.

Runs in: kill (hot).   Imports: cli.options; linux.signals.
Source:  runc kill; lifecycle.md 106 to 108.
Never:   waits for what the signal does.
"""

from skerry.cli.options import Option, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call

DEFAULT_SIGNAL = "TERM"

VERB = Verb(
    "send a signal to a container's init",
    words="<container-id> [signal]",
    most=2,
    options=(Option("all", "send it to every process of the container", letter="a", kind="flag"),),
    about="The signal is a number or a name, with or without SIG, in any case; also RTMIN+n and "
    "RTMAX-n. "
    f"Default: {DEFAULT_SIGNAL}.",
    example="skerry kill web KILL",
)


def main(call: "Call") -> int:
    from skerry.linux import signals

    container = call.container()
    container.kill(
        signals.parse(call.words[1] if len(call.words) > 1 else DEFAULT_SIGNAL),
        all=call.options["all"],
    )
    return 0
