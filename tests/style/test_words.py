"""The glossary's words, where another word can mean nothing but the same thing."""

import re

from sources import TOP, modules

# what is not said -> what is
WORDS = {
    r"\bguest VMs?\b": "utility VM",
    r"\bmicro-?VMs?\b(?<!(?-i:microvm))": "utility VM",  # QEMU's machine type is written microvm
    r"\bimage dir(ectory)?\b": "bundle",
    r"\bstate files?\b": "key",
    r"\bnotify socket of start\b": "gate",
    r"\bmonitor process\b": "shim",
    r"\bback-?ends? drivers?\b": "engine",
    r"\bfailed to\b(?! release one or more| create '| start '| format disk)": "cannot",
    r"\bblack-?list(ed)?\b": "deny list",
}
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "PRINCIPLES.md", "CONTRIBUTING.md", "docs/*.md")


def test_words():
    wrong = []
    texts = dict(modules())
    for pattern in DOCUMENTS:
        texts |= {str(path.relative_to(TOP)): path for path in TOP.glob(pattern)}
    for name, path in texts.items():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for word, better in WORDS.items():
                if found := re.search(word, line, re.IGNORECASE):
                    wrong.append(f"{name}:{number}: {found[0]!r}; say {better!r}")
    assert not wrong, "\n".join(wrong)
