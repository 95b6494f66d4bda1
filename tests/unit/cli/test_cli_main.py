"""The program around the verbs: help, version, wrong usage, logs, failures, closed descriptors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import skerry as package
from skerry.cli import help, main
from skerry.cli.output import ReaderGone
from skerry.errors import Error, SpecError

SOURCE = str(Path(package.__file__).parent.parent)
PROGRAM = (
    sys.executable,
    "-I",
    "-S",
    "-B",
    "-c",
    f"import sys; sys.path.append({SOURCE!r}); from skerry.cli.main import run; run()",
)


def run(*words, **options):
    return subprocess.run([*PROGRAM, *words], capture_output=True, text=True, timeout=30, **options)


def test_help_lists_every_verb_once(skerry):
    code, out, err = skerry("--help")
    assert (code, err) == (0, "")
    assert sorted(name for _, names in help.GROUPS for name in names) == sorted(main.VERBS)
    for name in main.VERBS:
        assert out.count(f"\n    {name} ") == 1
    assert skerry() == skerry("help") == skerry("h") == skerry("-h") == (0, out, "")


@pytest.mark.parametrize("verb", main.VERBS)
def test_help_of_a_verb(skerry, verb):
    code, out, err = skerry(verb, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: skerry {verb}") and "\nExample:\n    skerry " in out
    for option in main._verb(verb)[0].options:
        assert f"--{option.name}" in out
    assert all(len(line) <= 104 for line in out.splitlines())
    assert skerry(verb, "-h") == skerry("help", verb) == (0, out, "")


def test_version(skerry):
    """podman shows these lines; runc's own begin with `runc version` and have a `spec:` line."""
    code, out, err = skerry("--version")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0] == f"skerry version {package.__version__}"
    assert lines[1].startswith("spec: 1.")
    assert skerry("-v") == (0, out, "")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["kil"], 'unknown command "kil" (did you mean skerry kill?)'),
        (["xyzzy"], 'unknown command "xyzzy" (see skerry --help)'),
        (["--rot", "x", "list"], "flag provided but not defined: -rot (did you mean --root?)"),
        (["--root"], "flag needs an argument: -root"),
        (
            ["delete", "--forse", "c1"],
            "flag provided but not defined: -forse (did you mean --force?)",
        ),
        (["state"], 'skerry: "state" requires exactly 1 argument(s)'),
        (["kill", "a", "b", "c"], 'skerry: "kill" requires a maximum of 2 argument(s)'),
        (["list", "x"], 'skerry: "list" requires exactly 0 argument(s)'),
    ],
)
def test_wrong_usage(skerry, words, text):
    """lifecycle P: exit 1, usage on stdout, the cause as the last line of stderr."""
    code, out, err = skerry(*words)
    assert (code, err) == (1, text + "\n")
    assert out.startswith("Usage: skerry ") and out.count("\n") == 1


def test_flags_that_cannot_be_honoured(core, skerry):
    code, _, err = skerry("--systemd-cgroup", "state", "c1")
    assert code == 1 and err.startswith("cannot use --systemd-cgroup: ")
    code, _, err = skerry("--rootless", "true", "state", "c1")
    assert code == 1 and err.startswith("cannot use --rootless true: ")
    for words in (["--rootless", "auto"], ["--rootless=false"], ["--criu", "x"], ["--debug"]):
        assert skerry(*words, "pause", "c1") == (0, "", "")


def test_log_format(core, skerry, tmp_path):
    """lifecycle 134, P"""
    assert skerry("--log-format", "foo", "list") == (1, "", "invalid log-format: foo\n")
    log = tmp_path / "log.json"
    core.answers["start"] = SpecError("/x", 'bad "y"')
    assert skerry("--log", str(log), "--log-format=json", "start", "c1") == (1, "", '/x: bad "y"\n')
    line = json.loads(log.read_text().splitlines()[-1])
    assert (line["level"], line["msg"]) == ("error", '/x: bad "y"')
    text = tmp_path / "log.txt"
    assert skerry("--log", str(text), "start", "c1")[0] == 1
    assert 'level=error msg="/x: bad \\"y\\""' in text.read_text()


def test_usage_errors_reach_the_log(skerry, tmp_path):
    log = tmp_path / "log"
    assert skerry("--log", str(log), "--log-format", "json", "state")[0] == 1
    assert json.loads(log.read_text())["msg"] == 'skerry: "state" requires exactly 1 argument(s)'


class Strange(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (Error("cannot x: y", hint="try z"), 1, "cannot x: y (try z)"),
        (Strange("wh\nat \x1b[31m"), 1, "internal error: Strange: wh\\nat \\x1b[31m"),
        (RecursionError("deep"), 1, "internal error: RecursionError: deep"),
        (FileNotFoundError(2, "x", "/no"), 1, "ENOENT (no such file or directory): /no"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "out of memory"),
    ],
)
def test_any_failure_is_one_line(core, skerry, tmp_path, error, code, text):
    """P07: no traceback for users; with --debug it goes to the log file alone."""
    core.answers["start"] = error
    assert skerry("start", "c1") == (code, "", text + "\n")
    assert skerry("--debug", "start", "c1") == (code, "", text + "\n")
    log = tmp_path / "log"
    assert skerry("--debug", "--log", str(log), "start", "c1") == (code, "", text + "\n")
    assert "Traceback" in log.read_text()


def test_reader_gone(core, skerry):
    core.answers["start"] = ReaderGone()
    assert skerry("start", "c1") == (141, "", "")


def test_closed_pipe_and_full_disk():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [*PROGRAM, "--help"], stdout=closed, stderr=subprocess.PIPE, timeout=30
        )
    assert (done.returncode, done.stderr) == (141, b"")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, timeout=30)
    assert done.returncode == 1
    assert done.stderr == b"cannot write standard output: ENOSPC (no space left on device)\n"


def test_interrupt_before_main_is_no_traceback():
    """P07: until the program can answer an interrupt, the kernel does."""
    launch = f"{SOURCE}/skerry/launch.py"
    script = f"""
import _signal, sys, types
main = sys.modules["skerry.cli.main"] = types.ModuleType("skerry.cli.main")
main.run = lambda: print(_signal.getsignal(_signal.SIGINT) == _signal.SIG_DFL)
with open({launch!r}) as file:
    exec(file.read(), {{"__name__": "__main__", "__file__": {launch!r}}})
"""
    words = [sys.executable, "-I", "-S", "-B", "-c", script, "skerry"]
    assert subprocess.run(words, capture_output=True, timeout=30).stdout == b"True\n"


INTERRUPTED = f"""
import _signal, os, sys
_signal.signal(_signal.SIGHUP, _signal.SIG_IGN)
sys.path.append({SOURCE!r})
from skerry.cli import main
main._prepare_process()
try:
    os.kill(os.getpid(), int(sys.argv[1]))
    print("went on")
except main.Interrupted as interrupted:
    os.kill(os.getpid(), 15)
    os.kill(os.getpid(), 2)
    print(interrupted.signal)
"""


@pytest.mark.parametrize(("number", "said"), [(2, b"2"), (15, b"15"), (1, b"went on")])
def test_signals_end_the_work_once(number, said):
    """An exception from main on, one only; what the caller ignores (here HUP) stays ignored."""
    words = [sys.executable, "-I", "-S", "-B", "-c", INTERRUPTED, str(number)]
    assert subprocess.run(words, capture_output=True, timeout=30).stdout.strip() == said


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_missing_descriptors(closed):
    """decisions 10: 0 to 2 are there before anything is opened."""
    script = f'exec "$@" {closed}'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *PROGRAM, "nosuch"], capture_output=True, timeout=30
    )
    assert done.returncode == 1
    assert done.stdout.startswith(b"Usage: ") == ("1>" not in closed)
    assert done.stderr.startswith(b"unknown command") == ("2>" not in closed)


def test_locale_does_not_matter():
    """P12"""
    environment = {"LC_ALL": "C", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [*PROGRAM, b"n\xff\xc3\xa9"], capture_output=True, timeout=30, env=environment
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"unknown command ") and b"Traceback" not in done.stderr


def test_public_names():
    assert package.Error is Error
    assert "Container" in dir(package)
    with pytest.raises(AttributeError):
        package.nonsense  # noqa: B018
