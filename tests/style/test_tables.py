"""The tables in the documents are printed from the code, and say what it says now."""

import re

import print_tables
from sources import TOP


def test_tables_are_up_to_date():
    assert not print_tables.stale(), "run `make docs`"


def test_every_table_is_in_a_document():
    texts = "".join(path.read_text() for path in print_tables.documents())
    for name in print_tables.TABLES:
        assert f"<!-- table {name} -->" in texts


def test_links_between_documents_lead_somewhere():
    wrong = []
    for path in [*TOP.glob("*.md"), *TOP.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text()):
            if not (path.parent / target).exists():
                wrong.append(f"{path.relative_to(TOP)}: {target}")
    assert not wrong, "\n".join(wrong)


def test_the_version_is_said_once():
    from build_backend import project

    from skerry.paths import VERSION

    assert project()["version"] == VERSION
