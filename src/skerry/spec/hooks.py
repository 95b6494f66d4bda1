"""Rules for `hooks`, and their names in the order they run.

Runs in: create, run (hot); pure.   Imports: spec.fields.
Source:  runtime-spec config.md "POSIX-platform Hooks".
Never:   looks for the files.
"""

from skerry.spec.fields import (
    absolute_path,
    each,
    environment,
    integer,
    members,
    record,
    secret_texts,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HOOKS = (
    "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
)  # fmt: skip
# In seconds; a month, so that milliseconds fit 32 bits.
_TIMEOUT_LIMIT_S = 31 * 24 * 3600


def check_hooks(hooks: "Any", pointer: str = "/hooks") -> None:
    """Check the form of every hook.

    Errors  SpecError.
    """
    members(hooks, pointer, _HOOKS)


_HOOK = {
    "path": absolute_path,
    "args": secret_texts,
    "env": environment,
    "timeout": integer(1, _TIMEOUT_LIMIT_S),
}
_HOOKS = dict.fromkeys(HOOKS, each(record(_HOOK, required="path")))
