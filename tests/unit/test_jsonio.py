"""jsonio: what is read, what is refused and where, what is written. security.md P10, P11, P12 and section 8."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from skerry import jsonio
from skerry.errors import Error, SpecError

SOURCE = Path(jsonio.__file__).parents[1]


@pytest.mark.parametrize(
    "text",
    ["null", "true", "false", "0", "-1", "1.5", "1e3", '""', '"\\u00e9\\ud83d\\ude00"', "[]", "{}",
     ' \t\r\n{"a": [1, {"b": null}], "c": "x"} \r\n', "18446744073709551615"],
)  # fmt: skip
def test_reads_what_json_reads(text: str) -> None:
    value = jsonio.loads(text.encode())
    assert value == json.loads(text)
    assert type(value) is type(json.loads(text))


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "line 1 column 2"),
        (b"[1,\n2,]", "line 2"),
        (b'{"a" 1}', "delimiter"),
        (b"nul", "expecting value"),
        (b"'a'", "expecting value"),
        (b'{"a":1}\0', "more follows"),
        (b'{"a":1} {}', "more follows"),
        (b"01", "more follows"),
        (b"1.", "more follows"),
        (b'"a\nb"', "control character"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"\xff\xfe{\0}\0", "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b"NaN", "NaN is not JSON"),
        (b'{"unknown":[-Infinity]}', "-Infinity is not JSON"),
        (b'{"unknown":1e400}', "out of range"),
        (b"-1e400", "out of range"),
        (b"1" * 5001, "too many digits"),
    ],
)
def test_refuses(data: bytes, rule: str) -> None:
    with pytest.raises(SpecError) as caught:
        jsonio.loads(data, what="config.json")
    assert caught.value.pointer == ""
    assert rule in caught.value.rule
    assert str(caught.value).startswith("config.json: ")


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        (b'{"a":1,"a":1}', "/a"),
        (b'{"x":[{},{"a":{"b":1,"c":2,"b":1}}]}', "/x/1/a/b"),
        (b'{"a":{"b":1,"b":2},"a":3}', "/a"),
        (b'{"a/b~":{"":0,"":0}}', "/a~1b~0/"),
        (b'{"a":1,"\\u0061":2}', "/a"),
    ],
)
def test_refuses_a_name_given_twice(data: bytes, pointer: str) -> None:
    with pytest.raises(SpecError, match="twice") as caught:
        jsonio.loads(data)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        (b'"\\ud800"', ""),
        (b'{"process":{"env":["A=1","B=\\udc80"]}}', "/process/env/1"),
        (b'["\\uD83D\\uDE00","\\uDE00\\uD83D"]', "/1"),
        (b'{"a":{"\\ud800":1}}', ""),
    ],
)
def test_refuses_half_a_surrogate_pair(data: bytes, pointer: str) -> None:
    with pytest.raises(SpecError, match="surrogate") as caught:
        jsonio.loads(data)
    assert caught.value.pointer == pointer


def nested(depth: int, opening: bytes, closing: bytes) -> bytes:
    return opening * depth + closing * depth


@pytest.mark.parametrize("depth", [1, 100, jsonio.DEPTH_LIMIT])
def test_depth_up_to_the_cap(depth: int) -> None:
    assert jsonio.loads(nested(depth, b"[", b"]")) == json.loads(nested(depth, b"[", b"]"))
    jsonio.loads(nested(depth, b'{"a":', b"}").replace(b'{"a":}', b"{}"))


@pytest.mark.parametrize("depth", [jsonio.DEPTH_LIMIT + 1, 500, 2000, 100_000])
def test_depth_beyond_the_cap(depth: int) -> None:
    for data in (nested(depth, b"[", b"]"), nested(depth, b'{"a":', b"}").replace(b":}", b":0}")):
        with pytest.raises(SpecError, match="nested deeper than 128"):
            jsonio.loads(data)
    with pytest.raises(SpecError):
        jsonio.loads(b"[" * depth)


def test_wide_is_not_deep() -> None:
    assert len(jsonio.loads(b"[" + b"[[]]," * 1000 + b"0]")) == 1001  # type: ignore[arg-type]


def test_the_number_of_values_is_capped() -> None:
    jsonio.loads(b"[" + b"0," * (jsonio.VALUES_LIMIT - 1) + b"0]")
    with pytest.raises(SpecError, match="more than 300000 values"):
        jsonio.loads(b"[" + b"0," * jsonio.VALUES_LIMIT + b"0]")


def test_an_interpreter_without_json_words_a_syntax_error() -> None:
    """The scanner of 3.11 raises SystemError while `json` is not loaded; no traceback, no crash."""
    code = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n"
        "from skerry import jsonio\n"
        "from skerry.errors import SpecError\n"
        "jsonio.loads(b'{\"a\": [1, 2.5, null]}')\n"
        "assert 'json' not in sys.modules, 'reading loads json'\n"
        "for bad in (b'{', b'[1 2]', b'\"', b'{\"a\":}', b''):\n"
        "    try:\n"
        "        jsonio.loads(bad)\n"
        "    except SpecError as error:\n"
        "        print(error)\n"
    )
    result = subprocess.run([sys.executable, "-ISc", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 5
    assert result.stderr == ""


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(2**63), 2**64 - 1, 1.5, "", "a\"\\\n\x00\x7f é 😀 \u2028", [], {}, [[], {}],
     {"a": {"b": [1, {"c": None}]}, "": False}],
)  # fmt: skip
def test_what_is_written_comes_back(value: object) -> None:
    for data in (jsonio.dumps(value), jsonio.dumps_pretty(value), jsonio.dumps_pretty(value, 4)):
        assert jsonio.loads(data) == value
        assert json.loads(data) == value


def test_forms() -> None:
    value = {"a": [1, {"b": "é"}], "c": {}, "d": []}
    assert jsonio.dumps(value) == b'{"a":[1,{"b":"\xc3\xa9"}],"c":{},"d":[]}'
    assert jsonio.dumps_pretty(value).decode() == json.dumps(value, indent=2, ensure_ascii=False)
    assert jsonio.dumps_pretty(value, 4).decode() == json.dumps(
        value, indent=4, ensure_ascii=False
    )


@pytest.mark.parametrize(
    "value",
    [object(), {"a": {1, 2}}, b"x", float("nan"), [float("inf")], "\ud800", {"\udc80": 1}],
)
def test_refuses_to_write(value: object) -> None:
    """lifecycle 7: what cannot be serialised raises before anything is written."""
    for write in (jsonio.dumps, jsonio.dumps_pretty):
        with pytest.raises(Error, match="cannot write JSON"):
            write(value)


def test_refuses_to_write_a_circle() -> None:
    circle: list[object] = []
    circle.append(circle)
    for write in (jsonio.dumps, jsonio.dumps_pretty):
        with pytest.raises(Error, match="nested too deep"):
            write(circle)
