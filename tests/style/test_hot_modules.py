"""What a hot verb loads is what its caller waits for, so it is a list that is kept.

Each verb runs in an interpreter started as the launcher does, and tells what it has loaded.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from skerry import paths

BUSYBOX = "/bin/busybox"
HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
# verb -> modules of the command line that its full course loads
VERBS = {
    "create": ("create",),
    "start": ("start",),
    "run": ("run", "foreground", "terminal"),
    "exec": ("exec", "foreground", "terminal"),
    "state": ("state",),
    "kill": ("kill",),
    "delete": ("delete",),
}
LINES = (HERE / "hot_modules.txt").read_text().splitlines()
ALLOWED = {line.split()[0] for line in LINES if line and not line.startswith("#")}

START = f"""
import sys
bare = set(sys.modules)
sys.path.append({str(SOURCE)!r})
"""
IMPORT = (
    START
    + """
for name in ("main", *sys.argv[1:]):
    __import__(f"skerry.cli.{name}")
print(*sorted(set(sys.modules) - bare))
"""
)
CALL = (
    START
    + """
from skerry.cli.main import main
code = main(sys.argv[2:])
with open(sys.argv[1], "w") as report:
    print(code, *sorted(set(sys.modules) - bare), file=report)
"""
)


def python(script, *words):
    """Run a script in an interpreter like the launcher's; return what it wrote to 1 and 2.

    Into files: a container that stays holds its caller's descriptors, and a pipe would never end.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        subprocess.run(
            [sys.executable, "-I", "-S", "-B", "-c", script, *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            timeout=60,
        )
        out.seek(0)
        err.seek(0)
        return out.read(), err.read()


def surplus(modules):
    return [name for name in modules if name.split(".")[0] != "skerry" and name not in ALLOWED]


@pytest.mark.parametrize("verb", VERBS)
def test_import_of_a_verb(verb):
    out, err = python(IMPORT, *VERBS[verb])
    modules = out.split()
    assert f"skerry.cli.{verb}" in modules, err
    assert surplus(modules) == []


def test_the_comparison_sees_a_surplus():
    """Help is off the hot path: it loads what no hot verb may."""
    out, _ = python(IMPORT + "import textwrap\nprint(*sorted(set(sys.modules) - bare))")
    assert "re" in surplus(out.split())


def test_list_of_allowed_modules_is_not_stale():
    """Whatever is allowed exists, so that a typing error does not widen the list in silence."""
    for name in ALLOWED:
        __import__(name)


@pytest.fixture
def box(tmp_path):
    """A bundle, a root, and a way to call a verb: it returns the modules that the call loaded."""
    pytest.importorskip("skerry.container", reason="the core is not there")
    if os.geteuid():
        pytest.skip("needs root")
    if not Path(paths.init_path()).exists():
        pytest.skip("skerry-init is not built: make init")
    if not Path(BUSYBOX).exists():
        pytest.skip(f"{BUSYBOX} is not installed")
    bundle, root = tmp_path / "bundle", tmp_path / "root"
    (bundle / "rootfs/bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, bundle / "rootfs/bin/sh")

    def call(*words):
        report = tmp_path / "modules"
        _, err = python(CALL, str(report), "--root", str(root), *words)
        code, *modules = report.read_text().split()
        assert code == "0", err
        return modules

    call("spec", "--bundle", str(bundle))
    spec = json.loads((bundle / "config.json").read_bytes())
    spec["process"].update(terminal=False, args=["sh", "-c", "read x; exit 0"])
    # What this host may refuse is not what is tested here.
    spec["process"].pop("rlimits", None)
    (bundle / "config.json").write_text(json.dumps(spec))
    call.bundle = str(bundle)
    yield call
    for id in ("life", "once"):
        call("delete", "--force", id)


def test_life_of_a_container(box):
    """Every hot verb on its full course."""
    courses = [
        ("create", "--bundle", box.bundle, "life"),
        ("state", "life"),
        ("exec", "life", "sh", "-c", "exit 0"),
        ("start", "life"),
        ("delete", "--force", "life"),
        ("create", "--bundle", box.bundle, "life"),
        ("kill", "life", "KILL"),
        ("delete", "--force", "life"),
        ("run", "--bundle", box.bundle, "once"),
    ]
    loaded = {" ".join(words[:1]): surplus(box(*words)) for words in courses}
    assert loaded == dict.fromkeys(loaded, [])


@pytest.mark.parametrize("address", ["", "/nobody/listens"])
def test_readiness_is_for_those_who_ask(box, monkeypatch, address):
    """lifecycle 131: without NOTIFY_SOCKET its module is not even read."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    for words in (("create", "--bundle", box.bundle, "life"), ("start", "life"), ("run", "--bundle", box.bundle, "once")):
        loaded = box(*words)
        assert surplus(loaded) == []
        assert ("skerry.readiness" in loaded) is bool(address), words
