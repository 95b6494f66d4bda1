"""exec --process: the document as engines write it, and as nobody should."""

import json

import pytest
from support.box import Box, Container
from support.runtime import Result
from support.spec import fresh_spec


@pytest.fixture
def container(box: Box) -> Container:
    return box.parked(fresh_spec())


def process(*args: str, **more: object) -> dict:
    """A process document as engines write it."""
    return {"args": list(args), "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, **more}


def by_file(container: Container, document: object, *words: str, flags: tuple[object, ...] = ()) -> Result:
    path = container.box.dir / "process.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return container.exec(*words, flags=("--process", path, *flags))


def test_process_file(container: Container) -> None:
    document = process("sh", "-c", "pwd; id -u; echo $A", cwd="/tmp", env=["PATH=/bin", "A=1"], user={"uid": 5, "gid": 6})
    assert by_file(container, document).ok().lines == ["/tmp", "5", "1"]


def test_process_file_wins_over_words(container: Container) -> None:
    """lifecycle 95."""
    assert by_file(container, process("echo", "file"), "echo", "words").ok().out == "file\n"


def test_process_file_properties(container: Container) -> None:
    """As CRI writes them: capabilities, limits, no_new_privs."""
    caps = {name: ["CAP_CHOWN"] for name in ("bounding", "effective", "permitted")}
    limits = [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 77}]
    more = {"capabilities": caps, "rlimits": limits, "noNewPrivileges": True}
    script = "cat /proc/self/status; cat /proc/self/limits"
    result = by_file(container, process("sh", "-c", script, **more)).ok()
    assert int(result.fields()["CapEff"], 16) == 1
    assert result.fields()["NoNewPrivs"] == "1"
    assert "77" in next(line for line in result.lines if line.startswith("Max open files")).split()


def test_oom_score_of_a_process_file(container: Container) -> None:
    document = process("cat", "/proc/self/oom_score_adj", oomScoreAdj=333)
    assert by_file(container, document).ok().out == "333\n"


BAD_PROCESSES = {
    "empty": "", "brace": "{", "list": "[]", "null": "null", "trailing": json.dumps(process("true")) + "x",
    "no args": json.dumps({k: v for k, v in process().items() if k != "args"}), "empty args": process(),
    "no cwd": {k: v for k, v in process("true").items() if k != "cwd"}, "relative cwd": process("true", cwd="tmp"),
    "empty cwd": process("true", cwd=""), "uid text": process("true", user={"uid": "0", "gid": 0}),
    "uid negative": process("true", user={"uid": -1, "gid": 0}),
    "uid too large": process("true", user={"uid": 4294967296, "gid": 0}),
    "env without =": process("true", env=["NOEQUALS"]), "NUL in args": process("true\0x"),
    "args as text": {**process(), "args": "true"}, "unknown rlimit": process("true", rlimits=[{"type": "RLIMIT_FROB", "soft": 1, "hard": 1}]),
    "capabilities as list": process("true", capabilities=["CAP_CHOWN"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_PROCESSES)
def test_bad_process_file(container: Container, name: str) -> None:
    """lifecycle 96, security 8: 255, and the container goes on unchanged."""
    result = by_file(container, BAD_PROCESSES[name])
    assert result.code == 255, result
    assert result.out == ""
    assert container.verb("ps", "-f", "json").ok().json() == [container.pid]


@pytest.mark.skerry_only("lifecycle 96")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no cwd", "Cwd property must not be empty"),
        ("relative cwd", "Cwd must be an absolute path"),
        ("empty args", "args must not be empty"),
    ],
)
def test_bad_process_text(container: Container, name: str, text: str) -> None:
    by_file(container, BAD_PROCESSES[name]).failed(255).says(text)


def test_missing_process_file(container: Container) -> None:
    assert container.exec(flags=("--process", container.box.dir / "missing")).code == 255
