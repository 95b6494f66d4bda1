"""First lines of Python in every skerry: find the package, drop the path to it, run the face that was called.

Runs in: every command (hot); the launcher executes it as a script, with the name it was called by as the first word.
Imports: _signal, gc, sys, then cli.main or shims.task.launch.
Source:  docs/decisions/0002-launcher.md.
Never:   imported; leaves a directory on `sys.path` that is not the interpreter's own.

The package finds its modules by its own `__path__`. Its parent may be a whole site-packages, so it
is on `sys.path`, and last, for as long as it takes to find `skerry`: nothing else that lies there
can be imported, or stand before the interpreter's library.
"""

import _signal  # type: ignore[import-not-found]
import gc
import sys

SHIM = "containerd-shim-"


def launch() -> None:
    # Python's own handler would answer ^C with a traceback of these lines; cli.main puts it back.
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    # This file must still compile where the interpreter is too old for the others.
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit("skerry: cannot run: " + sys.executable + " is older than Python 3.11")
    # A verb lives for milliseconds and makes no rings of garbage; the collector would cost two of them.
    gc.disable()
    root = __file__[: -len("/skerry/launch.py")]
    sys.path.append(root)
    import skerry
    import skerry.archive

    sys.path.pop()
    skerry.archive.install(root)
    name = sys.argv.pop(1)
    sys.argv[0] = skerry.__name__
    if name.startswith(SHIM):
        from skerry.shims.task.launch import run as be_shim

        be_shim(name, sys.argv[1:])

    from skerry.cli.main import run

    run()


if __name__ == "__main__":
    launch()
