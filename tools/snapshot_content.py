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
HOT = ("run", "create", "start", "state", "kill", "delete")
COLD = ("skerry.cli", "skerry.rpc", "skerry.vm", "skerry.plan.show", "skerry.disk", "skerry.events")
WARM_ROUNDS = 20


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
    # What is used together lies together, so that fewer pages are touched: the hot modules first.
    hot = [f"skerry.cli.{verb}" for verb in ("main", *HOT)]
    for name in (*hot, *sorted(table, key=lambda name: name.startswith(COLD))):
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
        if hasattr(getattr(module, "__spec__", None), "loader") and "Extension" in repr(
            module.__spec__.loader
        ):
            sys.exit(f"{name} is a shared library, a snapshot cannot hold it")


def warm():
    """Do the pure parts of a create again and again: the interpreter adapts code to what it is used for.

    It would do so in every command anew, and write to the code's memory. Nothing is looked at but this process.
    """
    from skerry.cli import create, delete, kill, options, run, start, state
    from skerry.native.cgroup import devices
    from skerry.plan import create as recipe
    from skerry.plan.encode import encode
    from skerry.plan.request import Request
    from skerry.spec.defaults import default_spec
    from skerry.spec.validate import check_spec

    for _ in range(WARM_ROUNDS):
        spec = default_spec()
        spec["process"]["terminal"] = False
        check_spec(spec)
        request = Request("x86_64", "warm", spec, spec["process"])
        request.bundle, request.rootfs_path = "/", "/rootfs"
        request.cgroup_version = 1
        request.cgroup_mounts = [
            (name, f"/sys/fs/cgroup/{name}/warm", name) for name in ("cpu", "pids")
        ]
        request.limits = {7: (1, 1)}
        encode(recipe.build(request))
        devices.v1_lines(devices.rules(spec["linux"]["resources"], ""), "a *:* rwm")
        for verb in (create, delete, kill, run, start, state):
            options.parse(
                ["--bundle", "x", "y"] if verb in (create, run) else ["y"],
                verb.VERB.options,
                words_end_options=False,
            )


load()
warm()

import _signal  # noqa: E402
from _frozen_importlib_external import PathFinder  # noqa: E402
from _imp import create_dynamic, exec_dynamic  # noqa: E402

from skerry.cli.main import run as _run  # noqa: E402

# Python's own handler would answer ^C with a traceback (launch.py).
_signal.signal(_signal.SIGINT, _signal.SIG_DFL)


# Every verb needs it, and it is a shared library. Found now, and loaded then past the import system, it takes 0.4 ms
# instead of 1.7. The search also leaves the interpreter's directories in the finders' memory, which they check.
_json = PathFinder.find_spec("_json")


def entry():
    if _json:
        try:
            module = create_dynamic(_json)
            exec_dynamic(module)
            sys.modules["_json"] = module
        except ImportError:
            pass  # as an import says in a moment
    del sys.argv[1]  # the name it was called by, for launch.py to choose by
    sys.argv[0] = "skerry"
    _run()


del archive, load, warm, Refusal
gc.collect()
gc.freeze()
