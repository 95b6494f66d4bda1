"""The black-box suite: which of its tests are for which runtime. Its session is in support/session.py."""

import os
from pathlib import Path

import pytest
from support.expected import Differences
from support.runtime import ISOLATION
from support.session import BINARY, kind_of, pytest_pyfunc_call  # noqa: F401  a hook of this suite


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "skerry_only(rule): the rule is skerry's own, other runtimes do not keep it")
    config.addinivalue_line("markers", "slow: takes more than 0.25 s of its own")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    mine = [item for item in items if here in item.path.parents]
    if not mine:
        return
    if "RUNTIME" in os.environ and not os.access(BINARY, os.X_OK):
        raise pytest.UsageError(f"RUNTIME={BINARY} is no program")
    kind = "vm" if ISOLATION == "vm" else kind_of(BINARY)
    differences = Differences(here / "expected_differences.txt")
    for item in mine:
        rule = item.get_closest_marker("skerry_only")
        if not os.access(BINARY, os.X_OK):
            item.add_marker(pytest.mark.skip(reason=f"no runtime at {BINARY}"))
        elif rule and kind not in ("skerry", "vm"):
            item.add_marker(pytest.mark.skip(reason=f"a rule of skerry: {rule.args[0]}"))
        else:
            for mark in differences.marks(kind, f"{item.path.name}::{item.name}"):
                item.add_marker(mark)
