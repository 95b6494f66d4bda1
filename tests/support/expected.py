"""The table of differences between the runtimes, and the marks it makes.

A line is `runtime | how | test | reason`. `how` is `xfail` (the test must fail; a pass is reported), `flaky` (it may) or
`skip` (it must not run at all, for it would hang or harm). `*` in a test's name stands for anything; as a runtime for all
but skerry; `vm` is skerry where ISOLATION=vm puts every container into a VM.
"""

import re
from pathlib import Path

import pytest


class Differences:
    def __init__(self, path: Path) -> None:
        self._rows = []
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            words = [word.strip() for word in line.split(" | ")]
            if len(words) != 4 or words[1] not in ("xfail", "flaky", "skip") or not words[3]:
                raise ValueError(f"{path.name}:{number}: not `runtime | xfail/flaky/skip | test | reason`")
            pattern = re.compile(".*".join(map(re.escape, words[2].split("*"))))
            self._rows.append((words[0], words[1], pattern, words[3]))

    def marks(self, kind: str, test: str) -> list[pytest.MarkDecorator]:
        """Give the marks for a test, named `file.py::test[parameter]`."""
        found = []
        for runtime, how, pattern, reason in self._rows:
            applies = runtime == kind or (runtime == "*" and kind not in ("skerry", "vm"))
            if applies and pattern.fullmatch(test):
                mark = pytest.mark.skip if how == "skip" else pytest.mark.xfail
                extra = {} if how == "skip" else {"strict": how == "xfail"}
                found.append(mark(reason=f"{runtime}: {reason}", **extra))
        return found
