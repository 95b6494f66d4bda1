"""skerry create: make a container; its program waits at the gate for start.

Runs in: create (hot).   Imports: cli.creation, cli.options.
Source:  runc create; lifecycle.md D.
Never:   waits for the container.
"""

from skerry.cli.creation import OPTIONS, create_container
from skerry.cli.options import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.cli.call import Call

VERB = Verb(
    "create a container, which waits for start",
    options=OPTIONS,
    about="The container's namespaces, mounts, limits and cgroups are made and its init waits; "
    "the program of config.json "
    "runs when `skerry start` says so. Until then hooks and engines can set up what belongs to "
    "it, a network for one.\n\n"
    "A container with a terminal needs --console-socket.",
    example="skerry create --bundle /srv/web --pid-file /run/web.pid web",
)


def main(call: "Call") -> int:
    create_container(call, detach=True)
    return 0
