"""Settings of every suite below `tests/`."""

import sys
from pathlib import Path

import pytest

sys.dont_write_bytecode = True

# `support` is imported by name from every suite, whatever pytest's import mode and working directory are.
_HERE = str(Path(__file__).parent)
if _HERE not in sys.path:
    sys.path.insert(0, _HERE)

from support.session import box, null, runtime, session  # noqa: E402, F401  fixtures of all suites of the installed program


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write the golden files anew; review the difference")
