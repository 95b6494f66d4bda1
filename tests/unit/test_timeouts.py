"""Limits and their variables: lifecycle 128."""

import posix

import pytest

from skerry import timeouts

FOUR_MINUTES = ("CREATE", "START", "PAUSE", "RESUME", "SAVE", "COMMAND")


@pytest.mark.parametrize(
    ("name", "limit"), [*((name, 240) for name in FOUR_MINUTES), ("ANSWER", 120), ("STOP", 300)]
)
def test_defaults_lifecycle_128(name, limit):
    assert timeouts.seconds(name) == limit


@pytest.mark.parametrize(("value", "limit"), [(b"1", 1), (b"007", 7), (b"999999999", 999999999)])
def test_a_whole_number_overrides_lifecycle_128(monkeypatch, value, limit):
    monkeypatch.setitem(posix.environ, b"SKERRY_TIMEOUT_STOP", value)
    heard = []
    assert timeouts.seconds("STOP", warn=heard.append) == limit
    assert heard == []
    assert timeouts.seconds("START") == 240


@pytest.mark.parametrize(
    "value", [b"", b"0", b"-1", b"1.5", b" 1", b"1_0", "１２".encode(), b"9" * 5000, b"\xff"]
)
def test_another_value_is_a_warning_lifecycle_128(monkeypatch, value):
    """P09."""
    monkeypatch.setitem(posix.environ, b"SKERRY_TIMEOUT_STOP", value)
    heard = []
    assert timeouts.seconds("STOP", warn=heard.append) == 300
    assert len(heard) == 1 and heard[0].startswith("SKERRY_TIMEOUT_STOP=")
    assert timeouts.seconds("STOP") == 300
