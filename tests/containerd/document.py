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


def handlers() -> str:
    """Give the page's handlers of CRI, with the checkout's program in the installed one's place."""
    texts = blocks("toml", "version 2") + blocks("toml", "below runc's shim")
    return "".join(texts).replace("/usr/local/bin/skerry", str(TOP / "bin/skerry"))
