"""The same words to runc and to skerry: the same exit code, the same text.

Expected differences: skerry says its own name, and where an id is missing the store's words follow.
"""

import json
import re
import shutil
import subprocess

import pytest

RUNC = shutil.which("runc")
pytestmark = pytest.mark.skipif(RUNC is None, reason="runc is not installed")


def runc(tmp_path, *words):
    """Exit code, standard output, and the last error of runc as text."""
    if not (tmp_path / "config.json").exists():
        # runc reads the bundle before it looks at the id.
        subprocess.run([str(RUNC), "spec"], cwd=tmp_path, check=True, timeout=30)
    done = subprocess.run(
        ["runc", "--root", str(tmp_path / "runc"), "--log-format", "json", *words],
        executable=RUNC,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=30,
    )
    errors = [json.loads(line)["msg"] for line in done.stderr.splitlines() if line.startswith("{")]
    return done.returncode, done.stdout, re.sub(r"\brunc\b", "skerry", "\n".join(errors[-1:]))


@pytest.mark.parametrize("words", [["list"], ["list", "-q"], ["list", "--format=json"]])
def test_empty_list(core, skerry, tmp_path, words):
    core.known = []
    assert skerry(*words) == runc(tmp_path, *words)


ONE_ID = ("start", "state", "delete", "pause", "resume", "update", "events", "create", "run")


@pytest.mark.parametrize(
    "words",
    [
        *([verb] for verb in (*ONE_ID, "exec", "kill", "ps")),
        *([verb, "a", "b"] for verb in ONE_ID),
        ["kill", "a", "b", "c"],
        ["list", "a"],
        ["spec", "a"],
        ["features", "a"],
        ["list", "--nosuch"],
        ["exec", "--nosuch", "a"],
        ["exec", "-p"],
        ["create", "--pid-file"],
        ["list", "-qf"],
        ["list", "-f", "xml"],
        ["create", "a/b"],
        ["create", ""],
        ["run", "a b"],
        ["state", "a/b"],
        ["state", ""],
        ["delete", "-f", "a/b"],
        ["delete", "-f", "nope"],
        ["kill", "nope", "-a"],
    ],
    ids=" ".join,
)
def test_texts(core, skerry, tmp_path, words):
    code, out, error = runc(tmp_path, *words)
    ours = skerry(*words)
    assert ours[0] == code
    if error == "container does not exist":
        assert ours[2] == "container does not exist: ID 'nope' was not found\n"
    else:
        assert ours[2].rstrip("\n") == error
    # Wrong usage shows usage on stdout, in either's own form.
    assert bool(ours[1]) == bool(out)


@pytest.mark.parametrize(
    "words",
    [
        ["exec", "--tty=foo", "a"],
        ["create", "--preserve-fds", "x", "a"],
        ["create", "--no-pivot=maybe", "a"],
        ["events", "--interval", "foo", "a"],
    ],
    ids=" ".join,
)
def test_bad_values(core, skerry, tmp_path, words):
    """The reason is worded differently, but the value and the flag are named."""
    code, _, error = runc(tmp_path, *words)
    ours = skerry(*words)
    assert (ours[0], ours[2].split(": ")[0]) == (code, error.split(": ")[0])
