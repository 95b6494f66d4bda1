"""The snapshot is the interpreter, started earlier (docs/decisions/0010): nothing can tell them apart but a clock."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
NAME = "skerry.snapshot"

PROBE = """
import posix
import sys

def run():
    if sys.argv[1] == "--version":
        posix.write(1, b"skerry version {version}\\n")
        posix._exit(0)
    import _json, _signal, _thread, json, os
    facts = {
        "exe": posix.readlink("/proc/self/exe"),
        "flags": {name: getattr(sys.flags, name) for name in dir(sys.flags) if name[0] != "_"
                  and name != "hash_randomization" and not callable(getattr(sys.flags, name))},
        "path": sys.path,
        "argv": sys.argv,
        "environ": {name.decode(): value.decode() for name, value in posix.environ.items()},
        "os.environ": dict(os.environ),
        "ignored": [n for n in range(1, 32) if _signal.getsignal(n) == _signal.SIG_IGN],
        "fds": {fd: posix.readlink(f"/proc/self/fd/{fd}") for fd in posix.listdir("/proc/self/fd")
                if int(fd) < 3},
        "open": sorted(int(fd) for fd in posix.listdir("/proc/self/fd"))[:-1],
        "main thread": _thread.get_ident() == __import__("threading").main_thread().ident,
        "encodings": [sys.getfilesystemencoding(), sys.stdout.encoding, sys.getdefaultencoding()],
        "package": __import__("skerry").__path__[0],
        "file": __import__("skerry.paths").paths.__file__,
        "gc": __import__("gc").isenabled(),
    }
    with open(sys.argv[1], "w") as out:
        json.dump(facts, out)
    posix._exit(0)
"""


def make_tool(name: str, package: Path) -> str:
    command = [find_python(), TOP / "tools" / name, package.parent]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def find_python() -> str:
    return subprocess.check_output([TOP / "tools/find_python"], text=True).strip()


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """An installation by make, the probe in place of the command line, with its snapshot."""
    prefix = tmp_path_factory.mktemp("snapshot") / "prefix"
    command = ["make", "-s", "-C", TOP, "SETUP=true", "install", f"PREFIX={prefix}"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    package = prefix / "lib/skerry/skerry"
    if not (package / NAME).exists():
        (reason,) = (line for line in told.splitlines() if line.startswith("no snapshot"))
        pytest.skip(reason)
    version = (package / "paths.py").read_text().partition('VERSION = "')[2].partition('"')[0]
    (package / "cli/main.py").write_text(PROBE.replace("{version}", version))
    for cached in (package / "cli").glob("__pycache__/main.*.pyc"):
        cached.unlink()
    make_tool("make_archive", package)
    assert make_tool("make_snapshot", package) == ""
    return prefix


def ask(prefix: Path, out: Path, *words: str, **options) -> dict:
    subprocess.run([prefix / "bin/skerry", out, *words], check=True, timeout=60, **options)
    return json.loads(out.read_text())


@pytest.fixture
def without(probed, tmp_path):
    """Take the snapshot away for a while: `without() -> prefix`."""
    snapshot = probed / "lib/skerry/skerry" / NAME
    aside = tmp_path / NAME

    def take() -> Path:
        shutil.move(snapshot, aside)
        return probed

    yield take
    if aside.exists():
        shutil.move(aside, snapshot)


def awkward() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.close(0)
    os.close(2)


@pytest.mark.parametrize("prepare", [None, awkward])
def test_it_knows_what_a_fresh_interpreter_knows(probed, without, tmp_path, prepare):
    # Without a locale the interpreter would add one to its environment.
    environment = {"LC_ALL": "C.UTF-8", "A": "1", "B": "=two=", "LISTEN_FDS": "0", "HOME": "/x"}
    out = tmp_path / "facts"
    options = {"env": environment, "preexec_fn": prepare}
    woken = ask(probed, out, "two words", "-x", "ä\udc80", **options)
    fresh = ask(without(), out, "two words", "-x", "ä\udc80", **options)
    package = probed / "lib/skerry/skerry"
    assert woken.pop("exe") == str(package / NAME)
    assert fresh.pop("exe") == os.path.realpath(find_python())
    assert woken.pop("open") == [0, 1, 2]
    assert fresh.pop("open") == [0, 1, 2, 3]  # the archive
    assert woken == fresh
    assert woken["environ"] == environment
    assert (
        woken["flags"]["isolated"] == woken["flags"]["no_site"] == woken["flags"]["utf8_mode"] == 1
    )
    if prepare:
        assert {signal.SIGHUP, signal.SIGCHLD} <= set(woken["ignored"])


def test_another_installation_is_not_served(probed, tmp_path):
    """Moved, it would find the old place's files; so the interpreter does the work."""
    copy = tmp_path / "moved"
    shutil.copytree(probed, copy)
    facts = ask(copy, tmp_path / "facts")
    assert facts["exe"] == os.path.realpath(find_python())
    assert facts["package"] == str(copy / "lib/skerry/skerry")


def test_another_interpreter_is_not_served(probed, tmp_path):
    """After an upgrade the file is another, and what was made from the old one is not used."""
    python = tmp_path / "python3"
    shutil.copy(os.path.realpath(find_python()), python)
    prefix = tmp_path / "prefix"
    shutil.copytree(probed, prefix)
    launcher = [
        "make",
        "-s",
        "-C",
        TOP / "launcher",
        f"OUT={prefix}/bin/skerry",
        "ROOTS=lib/skerry",
    ]
    subprocess.run([*launcher, f"PYTHONS={python}"], check=True)
    tools = [python, TOP / "tools/make_snapshot", prefix / "lib/skerry"]
    subprocess.run(tools, check=True)
    assert ask(prefix, tmp_path / "facts")["exe"] == str(prefix / "lib/skerry/skerry" / NAME)
    os.utime(python, (0, 0))
    assert ask(prefix, tmp_path / "facts")["exe"] == str(python)


def test_it_carries_nothing_of_the_build(probed):
    """No environment, and no path but that of the installation."""
    data = (probed / "lib/skerry/skerry" / NAME).read_bytes()
    assert str(probed).encode() in data
    assert str(TOP).encode() not in data
    for name in ("PWD", "HOME", "USER", "LOGNAME"):
        assert f"{name}=".encode() + os.environ.get(name, "?").encode() not in data


def test_what_it_holds_is_what_hot_verbs_may_load(tmp_path):
    """A module of a rare verb might hold what is of one process only: seeds, threads, a copy of the environment."""
    prefix = tmp_path / "prefix"
    command = ["make", "-s", "-C", TOP, "SETUP=true", "install", f"PREFIX={prefix}"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if not (prefix / "lib/skerry/skerry" / NAME).exists():
        (reason,) = (line for line in told.splitlines() if line.startswith("no snapshot"))
        pytest.skip(reason)
    main = prefix / "lib/skerry/skerry/cli/main.py"
    main.write_text(main.read_text() + SHOW_MODULES)
    make_tool("make_archive", main.parents[1])
    assert make_tool("make_snapshot", main.parents[1]) == ""
    shown = subprocess.check_output([prefix / "bin/skerry", "modules"], text=True).split()
    listed = (TOP / "tests/style/hot_modules.txt").read_text().splitlines()
    allowed = {line.split()[0] for line in listed if line and not line.startswith("#")}
    bare = subprocess.check_output(
        [find_python(), "-I", "-S", "-c", "import sys; print(*sys.modules)"], text=True
    ).split()
    assert not {n for n in shown if n.partition(".")[0] != "skerry"} - allowed - {*bare, "gc"}
    assert {"skerry.native.create", "skerry.deletion", "skerry.cli.exec"} <= set(shown)


SHOW_MODULES = """
_run = run

def run() -> None:
    if sys.argv[1:] == ["modules"]:
        write_out(" ".join(sys.modules))
        posix._exit(0)
    _run()
"""
