"""skerry update: the resources that options and files stand for; sizes as go-units reads them."""

import json

import pytest

from skerry.cli.update import LIMITS, size


def updated(core, skerry, *words):
    code, _, err = skerry("update", *words, "c1")
    assert (code, err) == (0, "")
    return next(call[1][0] for call in core.calls if call[0] == "update")


def test_every_option(core, skerry):
    numbers = {name: str(position + 10) for position, name in enumerate(LIMITS)}
    assert updated(core, skerry, *(f"--{name}={text}" for name, text in numbers.items())) == {
        "blockIO": {"weight": 10},
        "cpu": {
            "period": 11,
            "quota": 12,
            "burst": 13,
            "shares": 14,
            "realtimePeriod": 15,
            "realtimeRuntime": 16,
            "idle": 17,
            "cpus": "18",
            "mems": "19",
        },
        "memory": {"limit": 20, "reservation": 21, "swap": 22},
        "pids": {"limit": 23},
    }


def test_only_what_was_given(core, skerry):
    assert updated(core, skerry) == {}


def test_minus_one_and_zero(core, skerry):
    """-1 is unlimited; 0 is "not given" as in runc, but for the two where it says something."""
    words = "--memory -1 --memory-swap=-1 --pids-limit -1 --cpu-quota -1 --cpu-share 0"
    words += " --blkio-weight 0 --memory-reservation 0"
    assert updated(core, skerry, *words.split(), "--cpu-idle", "0", "--cpu-burst", "0") == {
        "memory": {"limit": -1, "swap": -1},
        "pids": {"limit": -1},
        "cpu": {"quota": -1, "idle": 0, "burst": 0},
    }


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096b", 4096),
        ("64k", 65536),
        ("64K", 65536),
        ("64kb", 65536),
        ("64KiB", 65536),
        ("64 MiB", 64 << 20),
        ("1.5g", 3 << 29),
        ("2T", 2 << 40),
        ("1p", 1 << 50),
        ("-1", -1),
    ],
)
def test_sizes(text, number):
    assert size(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "foo", "-2", "1x", "1kk", "k", "1.2.3", "1 0", "0x10", "１", ".5g", "+1", "1i", "9" * 30],
)
def test_bad_sizes(text):
    with pytest.raises(ValueError):
        size(text)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--memory", "foo"], "invalid value for memory: invalid size: 'foo'"),
        (["--cpu-share", "-1"], "invalid value for cpu-share: negative: '-1'"),
        (["--cpu-quota", "abc"], "invalid value for cpu-quota: not a number: 'abc'"),
        (["--l3-cache-schema", "x"], "cannot use --l3-cache-schema: Intel RDT is not supported"),
        (["--mem-bw-schema", "x"], "cannot use --mem-bw-schema: Intel RDT is not supported"),
    ],
)
def test_refused(core, skerry, words, text):
    assert skerry("update", *words, "c1") == (1, "", text + "\n")
    assert "update" not in core.names()


def test_kernel_memory_warns(core, skerry):
    code, _, err = skerry("update", "--kernel-memory", "1g", "c1")
    assert code == 0
    assert "level=warning" in err and "Kernel memory settings are ignored" in err


@pytest.mark.parametrize("form", [["--resources", "FILE"], ["--resources=FILE"], ["-r", "FILE"]])
def test_file_wins(core, skerry, tmp_path, form):
    """podman writes --resources=<file>."""
    file = tmp_path / "r.json"
    file.write_text(json.dumps({"pids": {"limit": 5}}))
    words = [word.replace("FILE", str(file)) for word in form]
    assert updated(core, skerry, "--memory", "1g", *words) == {"pids": {"limit": 5}}
