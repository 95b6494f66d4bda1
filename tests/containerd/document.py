"""The blocks of docs/containerd.md, which the tests follow word by word."""

import re

from containerd_driver import TOP

PAGE = TOP / "docs/containerd.md"


def blocks(language: str, title: str) -> list[str]:
    """Give the code blocks of a language under the headings that contain the title."""
    found, heading = [], ""
    pattern = r"^#+ (?P<heading>[^\n]*)$|^```(?P<language>\w*)\n(?P<text>.*?)^```$"
    for match in re.finditer(pattern, PAGE.read_text(), re.MULTILINE | re.DOTALL):
        if match["heading"] is not None:
            heading = match["heading"]
        elif match["language"] == language and title in heading:
            found.append(match["text"])
    return found
