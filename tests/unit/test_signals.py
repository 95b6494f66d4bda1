"""Signals: lifecycle 107, with the numbers of the interpreter's own `signal` module."""

import signal

import pytest

from skerry.errors import UsageError
from skerry.linux import signals

ALIASES = {"SIGIOT", "SIGCLD", "SIGPOLL"}
NAMES = sorted(ALIASES | {item.name for item in signal.Signals} - {"SIGRTMIN", "SIGRTMAX"})


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_the_platform(name: str) -> None:
    number = getattr(signal, name)
    for text in (name, name.lower(), name[3:], name[3:].lower(), str(int(number))):
        assert signals.parse(text) == number


def test_real_time_signals() -> None:
    assert (signals.RTMIN, signals.RTMAX) == (signal.SIGRTMIN, signal.SIGRTMAX)
    for n in range(31):
        assert signals.parse(f"RTMIN+{n}") == signals.parse(f"sigrtmin+{n}") == 34 + n
        assert signals.parse(f"RTMAX-{n}") == 64 - n
    assert signals.parse("SIGRTMIN") == 34
    assert signals.parse("rtmax") == 64


def test_numbers() -> None:
    assert [signals.parse(text) for text in ("0", "9", "09", "64")] == [0, 9, 9, 64]


@pytest.mark.parametrize(
    "text",
    ["", "SIG", "SIGNOPE", "99", "65", "-9", "+9", "1_0", " 9", "9 ", "１５", "9.0", "0x9", "9999",
     "RTMIN+31", "RTMAX-31", "RTMIN-1", "RTMAX+1", "RTMIN+", "RTMIN+1_0", "RTMIN++1", "RTMIN+ 1",
     "SIGSIGTERM", "ſigterm", "KILL\n"],
)  # fmt: skip
def test_refuses(text: str) -> None:
    """lifecycle 107; security.md P09."""
    with pytest.raises(UsageError) as caught:
        signals.parse(text)
    assert caught.value.message == f'unknown signal "{text}"'.replace("\n", "\\n")


def test_name() -> None:
    assert signals.name(9) == "SIGKILL"
    assert signals.name(34) == "SIGRTMIN"
    assert signals.name(37) == "SIGRTMIN+3"
    assert signals.name(33) == "33"
    for number in (*range(1, 32), *range(34, 65)):
        assert signals.parse(signals.name(number)) == number
