"""The parser. What is taken, and the words of refusals, were tried on runc 1.1.5."""

import pytest

from skerry.cli.options import Option, Verb, count, integer, parse
from skerry.errors import UsageError

TABLE = (
    Option("force", "f", letter="f", kind="flag"),
    Option("tty", "t", letter="t", kind="flag"),
    Option("maybe", "m", kind="switch"),
    Option("pid-file", "p", letter="p"),
    Option("user", "u", letter="u", kind="word"),
    Option("env", "e", letter="e", kind="texts"),
    Option("preserve-fds", "n", kind="count"),
    Option("gid", "g", letter="g", kind="integers"),
)


def read(*words, ends=False):
    values, left = parse(words, TABLE, words_end_options=ends)
    defaults, _ = parse((), TABLE, words_end_options=ends)
    return {name: value for name, value in values.items() if value != defaults[name]}, left


@pytest.mark.parametrize(
    ("words", "values", "left"),
    [
        (["c1"], {}, ["c1"]),
        (["--force", "c1"], {"force": True}, ["c1"]),
        (["-force", "c1"], {"force": True}, ["c1"]),
        (["-f", "c1"], {"force": True}, ["c1"]),
        (["--f", "c1"], {"force": True}, ["c1"]),
        (["c1", "--force"], {"force": True}, ["c1"]),
        (["c1", "-f"], {"force": True}, ["c1"]),
        (["--force=false", "c1"], {}, ["c1"]),
        (["--force=1", "c1"], {"force": True}, ["c1"]),
        (["--maybe=F", "c1"], {"maybe": False}, ["c1"]),
        (["--pid-file", "x", "c1"], {"pid-file": "x"}, ["c1"]),
        (["--pid-file=x", "c1"], {"pid-file": "x"}, ["c1"]),
        (["-pid-file", "x", "c1"], {"pid-file": "x"}, ["c1"]),
        (["-p=x=y", "c1"], {"pid-file": "x=y"}, ["c1"]),
        (["-p", "-f", "c1"], {"pid-file": "-f"}, ["c1"]),
        (["-p", "--", "c1"], {"pid-file": "--"}, ["c1"]),
        (["--pid-file=", "c1"], {}, ["c1"]),
        (["-u", "", "c1"], {"user": ""}, ["c1"]),
        (["-e", "A=1", "-e", "B", "c1"], {"env": ("A=1", "B")}, ["c1"]),
        (["-g", "5", "-g", "-6", "c1"], {"gid": (5, -6)}, ["c1"]),
        (["--preserve-fds", "3", "c1"], {"preserve-fds": 3}, ["c1"]),
        (["-p", "a", "-p", "b"], {"pid-file": "b"}, []),
        (["--", "-f"], {}, ["-f"]),
        (["c1", "--", "-f"], {}, ["c1", "-f"]),
        (["c1", "-9"], {}, ["c1", "-9"]),
        (["-", "-f"], {"force": True}, ["-"]),
        (["", "x"], {}, ["", "x"]),
        (["---x"], {}, ["---x"]),
    ],
)
def test_reads(words, values, left):
    assert read(*words) == (values, left)


@pytest.mark.parametrize(
    ("words", "values", "left"),
    [
        (["-t", "c1", "sh", "-t", "--force"], {"tty": True}, ["c1", "sh", "-t", "--force"]),
        (["c1", "--help"], {}, ["c1", "--help"]),
        (["--", "c1", "-t"], {}, ["c1", "-t"]),
    ],
)
def test_first_word_ends_options(words, values, left):
    assert read(*words, ends=True) == (values, left)


@pytest.mark.parametrize(
    "words", [["-h"], ["--help"], ["-help"], ["-f", "-h", "--nonsense"], ["c1", "-h"]]
)
def test_help_stops_the_reading(words):
    assert read(*words)[0]["help"] is True


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--nosuch"], "flag provided but not defined: -nosuch"),
        (["c1", "--nosuch"], "flag provided but not defined: -nosuch"),
        (["-ft"], "flag provided but not defined: -ft"),
        (["--forse"], "flag provided but not defined: -forse (did you mean --force?)"),
        (
            ["--pid_file", "x"],
            "flag provided but not defined: -pid_file (did you mean --pid-file?)",
        ),
        (["-p"], "flag needs an argument: -p"),
        (["--pid-file"], "flag needs an argument: -pid-file"),
        (["--tty=foo"], 'invalid boolean value "foo" for -tty: not a boolean'),
        (["--preserve-fds", "x"], 'invalid value "x" for flag -preserve-fds: not a number'),
        (["--preserve-fds", "-1"], 'invalid value "-1" for flag -preserve-fds: negative'),
    ],
)
def test_refuses(words, text):
    with pytest.raises(UsageError) as error:
        read(*words)
    assert str(error.value) == text
    assert error.value.usage


# security.md P09: int() would take every one of these.
@pytest.mark.parametrize(
    "text",
    ["１２", " 1", "1 ", "1_0", "+1", "", "-", "0x10", "1.0", "9" * 20, "9" * 5000, str(1 << 63)],
)
def test_numbers_are_strict(text):
    with pytest.raises(ValueError):
        integer(text)


def test_numbers():
    assert [integer(text) for text in ("0", "-1", "007", str((1 << 63) - 1))] == [
        0,
        -1,
        7,
        (1 << 63) - 1,
    ]
    with pytest.raises(ValueError):
        count("-1")


@pytest.mark.parametrize(
    ("least", "most", "words", "text"),
    [
        (1, 1, [], 'skerry: "v" requires exactly 1 argument(s)'),
        (1, 1, ["a", "b"], 'skerry: "v" requires exactly 1 argument(s)'),
        (0, 0, ["a"], 'skerry: "v" requires exactly 0 argument(s)'),
        (1, None, [], 'skerry: "v" requires a minimum of 1 argument(s)'),
        (1, 2, [], 'skerry: "v" requires a minimum of 1 argument(s)'),
        (1, 2, ["a", "b", "c"], 'skerry: "v" requires a maximum of 2 argument(s)'),
    ],
)
def test_number_of_words(least, most, words, text):
    """lifecycle P"""
    with pytest.raises(UsageError) as error:
        Verb("s", least=least, most=most, example="e").check_words("v", words)
    assert str(error.value) == text
    assert error.value.usage
