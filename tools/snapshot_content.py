"""What a snapshot holds: runs inside the interpreter that is about to become one (launcher/snapshot.c).

Runs in: tools/make_snapshot, which puts ROOT and ALLOWED before these lines; the current directory holds the package.
Never:   leaves a shared library, an open file, a thread or a path of the build in what is written down.
"""

# ruff: noqa: F821  ROOT and ALLOWED

import gc
import marshal
import sys

# No garbage of loading shall be looked at by the commands; and launch.py turns it off anyhow.
gc.disable()
LOADED = {*sys.modules}


class Refusal:
    """First in line to find a module: what no hot verb may load is not loaded, nor what needs it."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "skerry" and name not in LOADED | ALLOWED:
            raise ImportError(f"{name} is loaded when it is needed")
        return None


def archive():
    """The archive of the installed package, as archive.py would open it where it will be."""
    code = {"__name__": "archive"}
    with open("skerry/archive.py") as source:
        # Not imported: the finder of files would keep the directory's full name.
        exec(source.read(), code)
    fd = code["posix"].open(f"skerry/{code['NAME'].format(tag=sys.implementation.cache_tag)}", 0)
    size = int.from_bytes(code["posix"].read(fd, code["SIZE_BYTES"]), "little")
    _, table = marshal.loads(code["posix"].read(fd, size))
    return fd, code["Archive"](ROOT, fd, code["SIZE_BYTES"] + size, table), table


def load():
    fd, finder, table = archive()
    sys.meta_path[:0] = [Refusal(), finder]
    for name in table:
        if name in ("skerry.__main__", "skerry.launch", "skerry.archive"):
            continue
        try:
            __import__(name)
        except ImportError:
            continue
    del sys.meta_path[:2]
    sys.modules["posix"].close(fd)
    sys.path_importer_cache.clear()
    for name, module in sys.modules.items():
        if hasattr(getattr(module, "__spec__", None), "loader") and "Extension" in repr(module.__spec__.loader):
            sys.exit(f"{name} is a shared library, a snapshot cannot hold it")


load()

import _signal  # noqa: E402

from skerry.cli.main import run as _run  # noqa: E402

# Python's own handler would answer ^C with a traceback (launch.py).
_signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def entry():
    sys.argv[0] = "skerry"
    _run()


del archive, load, Refusal
gc.collect()
gc.freeze()
