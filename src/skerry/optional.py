"""The only door to libraries that skerry can do without.

Runs in: off the hot path only.   Imports: sys; site and importlib when called.
Source:  `python3 -S` leaves the site directories out; site.getsitepackages().
Never:   reads a `.pth` file, the user's own site directory, or a variable of the environment.
"""

import sys

from skerry.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


def load(name: str, *, need: str = "") -> "ModuleType":
    """Import a library from where the system, or the environment we are installed in, keeps such.

    Errors  Error naming the library and what needs it.
    """
    import importlib
    import site

    # `import site` alone changes nothing under -S; the directories go to the end, so that they hide
    # nothing of ours.
    for directory in site.getsitepackages():
        if directory not in sys.path:
            sys.path.append(directory)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        what = f" for {need}" if need else ""
        raise Error(
            f"cannot load {name}{what}: {error}", hint=f"install the Python package {name}"
        ) from error
