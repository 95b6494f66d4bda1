"""The sources the rules are about, parsed once, and the exemptions from them."""

import ast
from functools import cache
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PACKAGE = TOP / "src/skerry"
EXEMPTIONS = Path(__file__).parent / "exemptions.txt"


@cache
def modules() -> dict[str, Path]:
    """`plan/build.py` -> path, for every module of the package."""
    return {str(p.relative_to(PACKAGE)): p for p in sorted(PACKAGE.rglob("*.py"))}


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text(), name)


@cache
def exempt() -> dict[tuple[str, str], str]:
    """(rule, place) -> reason."""
    found = {}
    for line in EXEMPTIONS.read_text().splitlines():
        if line and not line.startswith("#"):
            rule, place, reason = (part.strip() for part in line.split("|"))
            found[rule, place] = reason
    return found


def offenders(rule: str, found: dict[str, str]) -> list[str]:
    """What breaks the rule and has no exemption, and the exemptions that nothing needs any more."""
    pardoned = {place for name, place in exempt() if name == rule}
    broken = [f"{place}: {text}" for place, text in found.items() if place not in pardoned]
    return broken + [f"{place}: needs no exemption" for place in pardoned - found.keys()]
