"""Which tests show which statement of the lifecycle, read from what the tests cite.

A test cites by `lifecycle 22, 32`, `lifecycle 118-120`, `lifecycle P` in its docstring, marks or comments, or by a name that
ends in `lifecycle_8_13`. `python tests/support/citations.py` writes the table anew: witnesses that still cite stay, the
first tests found make up for those that do not, up to three for each statement.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
TABLE = TESTS / "lifecycle_coverage.txt"
STATEMENTS = [*map(str, range(1, 160)), "P"]
WITNESSES = 3
# What no test can show yet. Everything else must be shown.
NOT_BUILT: dict[str, tuple[int, ...]] = {
    "checkpoint and restore: not built": (142,),
}
_HEAD = """\
# Statement of docs/lifecycle.md | tests that show it, or why none can. Written by tests/support/citations.py.
"""
_ITEM = r"(?:\d+(?:-\d+)?|P\b)"
_CITATION = re.compile(rf"lifecycle ({_ITEM}(?:(?:, | and ){_ITEM})*)")
_NAME = re.compile(r"lifecycle((?:_\d+)+)")


def cited() -> dict[str, list[str]]:
    """Give statement -> tests that cite it, as `folder/file.py::test`."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text()
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                first = min(node.lineno, *(mark.lineno for mark in node.decorator_list), node.lineno)
                for number in sorted(set(_numbers("\n".join(lines[first - 1 : node.end_lineno])))):
                    found.setdefault(number, []).append(f"{path.relative_to(TESTS)}::{node.name}")
    return found


def _numbers(source: str) -> Iterator[str]:
    for match in _CITATION.finditer(source):
        for item in re.split(", | and ", match[1]):
            if item == "P":
                yield item
            else:
                first, _, last = item.partition("-")
                yield from map(str, range(int(first), int(last or first) + 1))
    for match in _NAME.finditer(source):
        yield from match[1].strip("_").split("_")


def read() -> dict[str, list[str]]:
    """Give statement -> what the table says: tests, or one reason that ends in `not built`."""
    rows = {}
    for line in TABLE.read_text().splitlines():
        if line and not line.startswith("#"):
            statement, _, rest = line.partition(" | ")
            rows[statement.strip()] = [rest] if rest.endswith("not built") else rest.split()
    return rows


def reason(statement: str) -> str:
    """Give why a statement cannot be shown, or an empty text."""
    return next((why for why, numbers in NOT_BUILT.items() if statement in map(str, numbers)), "")


def write() -> None:
    """Write the table anew."""
    found, old = cited(), read() if TABLE.exists() else {}
    rows = []
    for statement in STATEMENTS:
        all_ = found.get(statement, [])
        kept = [test for test in old.get(statement, []) if test in all_]
        tests = (kept + [test for test in all_ if test not in kept])[:WITNESSES]
        rows.append(f"{statement:>3} | {' '.join(tests) or reason(statement) or 'MISSING'}\n")
    TABLE.write_text(_HEAD + "".join(rows))


if __name__ == "__main__":
    write()
