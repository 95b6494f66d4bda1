"""The guest's interfaces: takes over what the pod's interfaces on the host were.

Runs in: the guest.   Imports: errors.
Source:  docs/vm.md, `network`.
Never:   makes an interface.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def apply(interfaces: "list[dict[str, Any]]") -> None:
    """TODO"""
