"""First lines of Python in every skerry: find the package, drop the path to it, run the CLI.

Runs in: every command (hot); the launcher executes it as a script.   Imports: sys, then cli.main.
Source:  docs/decisions/0002-launcher.md.
Never:   imported; leaves a directory on `sys.path` that is not the interpreter's own.

The package finds its modules by its own `__path__`. Its parent may be a whole site-packages, so it
is on `sys.path`, and last, for as long as it takes to find `skerry`: nothing else that lies there
can be imported, or stand before the interpreter's library.
"""

import sys


def launch() -> None:
    # This file must still compile where the interpreter is too old for the others.
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit("skerry: cannot run: " + sys.executable + " is older than Python 3.11")
    sys.path.append(__file__[: -len("/skerry/launch.py")])
    import skerry

    sys.path.pop()
    sys.argv[0] = skerry.__name__

    from skerry.cli.main import run

    run()


if __name__ == "__main__":
    launch()
