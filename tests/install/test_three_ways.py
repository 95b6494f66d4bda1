"""Checkout, `make install`, `pip install`: three ways in, one start (decisions 14, P02-P04).

The package of each way is installed for real; then its `cli/main.py` is replaced by a probe that
writes down what the interpreter was started with, since no verb of skerry says so.
"""

import base64
import csv
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
WAYS = ("checkout", "make", "pip")

PROBE = """
import sys

def run():
    import json, posix
    facts = {
        "flags": {name: getattr(sys.flags, name) for name in dir(sys.flags) if name[0] != "_"
                  and not callable(getattr(sys.flags, name))},
        "path": sys.path,
        "argv": sys.argv,
        "fds": {fd: posix.readlink(f"/proc/self/fd/{fd}") for fd in posix.listdir("/proc/self/fd")
                if int(fd) < 3},
    }
    with open(sys.argv[1], "w") as out:
        json.dump(facts, out)
"""

TRAP = "open({marker!r}, 'a').write(__name__ + chr(10))\n"
PLANTED = ("sitecustomize", "usercustomize", "json", "struct", "errno", "posix", "ctypes", "skerry")


@dataclass
class Installed:
    launcher: Path
    package: Path


def make(*arguments: str) -> None:
    subprocess.run(["make", "-s", "-C", str(TOP), "SETUP=true", *arguments], check=True)


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """One real installation of each way: `{way: Installed}`."""
    top = tmp_path_factory.mktemp("installed")
    return {
        "checkout": from_checkout(top),
        "make": by_make(top / "prefix"),
        "pip": by_pip(top / "venv"),
    }


def from_checkout(top: Path) -> Installed:
    make("build")
    copy = top / "checkout"
    shutil.copytree(TOP / "src", copy / "src")
    shutil.copytree(TOP / "bin", copy / "bin")
    return Installed(copy / "bin/skerry", copy / "src/skerry")


def by_make(prefix: Path) -> Installed:
    make("install", f"PREFIX={prefix}")
    return Installed(prefix / "bin/skerry", prefix / "lib/skerry/skerry")


def by_pip(venv: Path) -> Installed:
    python = subprocess.check_output([TOP / "tools/find_python"], text=True).strip()
    subprocess.run([python, "-m", "venv", venv], check=True)
    pip = [venv / "bin/pip", "install", "-q", "--no-index", "--disable-pip-version-check", str(TOP)]
    subprocess.run(pip, check=True)
    (package,) = venv.glob("lib/python3.*/site-packages/skerry")
    return Installed(venv / "bin/skerry", package)


@pytest.fixture(params=WAYS)
def way(request, installed):
    return installed[request.param]


@pytest.fixture
def probe(request, tmp_path, installed):
    """Copy an installation, the probe in place of the command line: `probe(way) -> Installed`."""

    def prepare(name: str) -> Installed:
        original = installed[name]
        top = Path(os.path.commonpath([original.launcher, original.package]))
        shutil.copytree(top, tmp_path / "top", symlinks=True)
        copy = Installed(
            *(tmp_path / "top" / p.relative_to(top) for p in (original.launcher, original.package))
        )
        (copy.package / "cli/main.py").write_text(PROBE)
        for cached in (copy.package / "cli").glob("__pycache__/main.*.pyc"):
            cached.unlink()  # unchecked: it would win over the new source
        for made in (*copy.package.glob("*.modules"), *copy.package.glob("*.snapshot")):
            made.unlink()  # so would these
        return copy

    return prepare


def ask(installed: Installed, out: Path, *arguments: str, launcher: Path | None = None, **options):
    command = [launcher or installed.launcher, out, *arguments]
    subprocess.run(command, check=True, timeout=60, **options)
    return json.loads(out.read_text())


@pytest.mark.parametrize("name", WAYS)
def test_the_interpreter_is_isolated(name, probe, tmp_path):
    copy = probe(name)
    facts = ask(copy, tmp_path / "facts", "two words", "-x")
    flags = facts["flags"]
    assert flags["isolated"] == flags["no_site"] == flags["dont_write_bytecode"] == 1
    assert flags["utf8_mode"] == 1
    assert facts["argv"] == ["skerry", str(tmp_path / "facts"), "two words", "-x"]
    # Only the interpreter's own library: not the package's parent, not the current directory.
    assert facts["path"]
    assert not [entry for entry in facts["path"] if "packages" in entry or str(tmp_path) in entry]


def plant(directory: Path, marker: Path) -> None:
    directory.mkdir(exist_ok=True)
    for module in PLANTED:
        (directory / f"{module}.py").write_text(TRAP.format(marker=str(marker)))


def hostile(directory: Path, marker: Path) -> dict[str, str]:
    """Make an environment whose every variable that can bring in code is a trap (P02)."""
    plant(directory, marker)
    home = directory / "home"
    home.mkdir()
    (home / "site.py").write_text(TRAP.format(marker=str(marker)))
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(directory),
        "PYTHONSTARTUP": str(directory / "struct.py"),
        "PYTHONINSPECT": "1",
        "PYTHONBREAKPOINT": "sitecustomize",
        "PYTHONUSERBASE": str(home),
        "PYTHONPYCACHEPREFIX": str(directory / "cache"),
        "PYTHONWARNINGS": "error::sitecustomize.X",
        "PYTHONOPTIMIZE": "2",
        "PYTHONVERBOSE": "1",
        "PYTHONIOENCODING": "utf-7",
        "PYTHONDEVMODE": "1",
    }


def test_the_traps_work_on_an_ordinary_interpreter(tmp_path):
    """The control of the next test: the same environment and directory do run code elsewhere."""
    marker = tmp_path / "marker"
    environment = hostile(tmp_path / "traps", marker)
    script = [sys.executable, "-c", "import struct"]
    subprocess.run(script, env=environment, stdin=subprocess.DEVNULL, capture_output=True)
    assert "struct" in marker.read_text()


@pytest.mark.parametrize("name", WAYS)
def test_nothing_planted_runs(name, probe, tmp_path):
    """P02, P03: variables, the current directory, and what lies beside the package."""
    copy = probe(name)
    marker = tmp_path / "marker"
    environment = hostile(tmp_path / "traps", marker)
    plant(tmp_path / "bundle", marker)
    beside = copy.package.parent
    for module in PLANTED:
        if module != "skerry":
            (beside / f"{module}.py").write_text(TRAP.format(marker=str(marker)))
    (beside / "trap.pth").write_text(f"import sitecustomize; {TRAP.format(marker=str(marker))}")

    facts = ask(copy, tmp_path / "facts", cwd=tmp_path / "bundle", env=environment)
    assert not marker.exists(), marker.read_text()
    assert (
        facts["flags"]["optimize"] == facts["flags"]["inspect"] == facts["flags"]["dev_mode"] == 0
    )


SHIMS = ("containerd-shim-skerry-v2", "containerd-shim-skerry-vm-v2")


@pytest.mark.parametrize("shim", SHIMS)
@pytest.mark.parametrize("name", WAYS)
def test_the_shim_is_the_same_program_by_another_name(name, shim, installed, tmp_path):
    """The launcher chooses by the name it was called by; the directory it is called in, a bundle, counts for nothing."""
    way = installed[name]
    marker = tmp_path / "marker"
    plant(tmp_path / "bundle", marker)
    link = tmp_path / shim
    link.symlink_to(way.launcher)
    for program in (way.launcher.parent / shim, link):
        for words in (["-v"], ["-info"], ["-namespace", "x", "-id", "start", "-v", "start"]):
            done = subprocess.run(
                [program, *words], cwd=tmp_path / "bundle", stdin=subprocess.DEVNULL, capture_output=True, timeout=60
            )
            assert done.returncode == 0 and not done.stderr, done.stderr
            assert b"skerry" in done.stdout
    done = subprocess.run([link, "start"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert done.returncode == 1 and done.stderr.startswith(shim.encode() + b": cannot run")
    assert not marker.exists()


@pytest.mark.parametrize("name", WAYS)
def test_missing_standard_fds_are_dev_null(name, probe, tmp_path):
    """decisions 10: else the first file opened would be taken for stdout."""
    copy = probe(name)
    for missing in ((0,), (1,), (2,), (0, 1, 2)):
        facts = ask(
            copy, tmp_path / "facts", preexec_fn=lambda fds=missing: [os.close(fd) for fd in fds]
        )
        assert {facts["fds"][str(fd)] for fd in missing} == {"/dev/null"}


def listing(top: Path) -> dict[str, tuple[int, int]]:
    entries = [top, *top.rglob("*")]
    return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_ino) for p in entries}


def test_a_run_writes_nothing_into_the_installation(way):
    """P04."""
    before = listing(way.package)
    result = subprocess.run([way.launcher, "--version"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("skerry version ")
    assert listing(way.package) == before


def test_a_symbolic_link_starts_it_from_anywhere(way, tmp_path):
    link = tmp_path / "linked"
    link.symlink_to(way.launcher)
    result = subprocess.run(
        [link, "--version"], cwd="/", capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_skerry_init_is_there_static_and_executable(way):
    program = way.package / "skerry-init"
    assert program.stat().st_mode & stat.S_IXUSR
    data = program.read_bytes()
    assert data[:4] == b"\x7fELF"
    assert b"ld-linux" not in data


def test_installed_bytecode_is_never_compared_with_the_sources(installed):
    """PEP 552: flag word 1 is an unchecked hash. pip compiles anew, so it is left out."""
    cached = list(installed["make"].package.rglob("*.pyc"))
    sources = list(installed["make"].package.rglob("*.py"))
    assert len(cached) == len(sources) > 0
    assert {c.read_bytes()[4:8] for c in cached} == {b"\x01\0\0\0"}


@pytest.mark.parametrize("name, archives", [("checkout", 0), ("make", 1), ("pip", 1)])
def test_modules_come_from_the_archive_where_there_is_one(
    name, archives, probe, installed, tmp_path
):
    """decisions/0002: in a checkout the sources change, so they are what counts there."""
    assert len(list(installed[name].package.glob("*.modules"))) == archives
    copy = probe(name)  # its sources differ, its archive is gone
    for archive in installed[name].package.glob("*.modules"):
        shutil.copy(archive, copy.package)
    command = [copy.launcher, "--version"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    assert shown.startswith("skerry version ") == bool(archives)


def test_installed_files_are_open_to_read_and_closed_to_write(tmp_path):
    """P04, P06: whatever the caller's umask, directories 0755, programs 0755, sources 0644."""
    old = os.umask(0o077)
    try:
        made = by_make(tmp_path / "prefix")
    finally:
        os.umask(old)
    top = tmp_path / "prefix"
    modes = {p: stat.S_IMODE(p.stat().st_mode) for p in top.rglob("*")}
    programs = {made.launcher, made.package / "skerry-init", made.package / "skerry.snapshot"}
    programs |= {made.launcher.parent / shim for shim in SHIMS}
    wrong = {
        str(p): oct(m)
        for p, m in modes.items()
        if m != (0o755 if p.is_dir() or p in programs else 0o644)
    }
    assert not wrong
    make("uninstall", f"PREFIX={top}")
    assert not [p for p in top.rglob("*") if not p.is_dir()]


def test_destdir_stays_out_of_the_installed_files(tmp_path):
    make("install", "PREFIX=/opt/skerry", f"DESTDIR={tmp_path}/stage")
    stage = f"{tmp_path}/stage".encode()
    files = [p for p in (tmp_path / "stage").rglob("*") if p.is_file()]
    assert files
    assert not [p for p in files if stage in p.read_bytes()]


def test_wheel_carries_programs_and_honest_record(tmp_path):
    sys.path.insert(0, str(TOP / "tools"))
    try:
        import build_backend
    finally:
        sys.path.pop(0)
    name = build_backend.build_wheel(str(tmp_path))
    with zipfile.ZipFile(tmp_path / name) as wheel:
        modes = {e.filename: e.external_attr >> 16 for e in wheel.infolist()}
        (record,) = (n for n in modes if n.endswith(".dist-info/RECORD"))
        (launcher,) = (n for n in modes if n.endswith(".data/scripts/skerry"))
        assert modes[launcher] == modes["skerry/skerry-init"] == 0o100755
        rows = list(csv.reader(wheel.read(record).decode().splitlines()))
        assert {row[0] for row in rows} == set(modes)
        for path, digest, size in rows:
            if path != record:
                data = wheel.read(path)
                want = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                assert (digest, int(size)) == (f"sha256={want}", len(data))
        compiled = [n for n in modes if n.endswith(".pyc")]
        assert {wheel.read(n)[4:8] for n in compiled} == {b"\x01\0\0\0"}


@pytest.mark.parametrize(
    "roots, pythons, message",
    [
        ("src", "/nowhere/python3", "skerry: cannot find a Python interpreter: /nowhere/python3\n"),
        ("nowhere", "/bin/sh", "skerry: cannot find its own files: {top}/nowhere\n"),
    ],
)
def test_a_broken_installation_says_what_is_missing(tmp_path, roots, pythons, message):
    launcher = tmp_path / "bin/skerry"
    arguments = [f"OUT={launcher}", f"ROOTS={roots}", f"PYTHONS={pythons}"]
    subprocess.run(["make", "-s", "-C", str(TOP / "launcher"), *arguments], check=True)
    result = subprocess.run([launcher, "list"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == message.format(top=tmp_path)
