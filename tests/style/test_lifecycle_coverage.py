"""Every statement of the lifecycle has a test that cites it, and the table of them says what is so."""

from support import citations

ADVICE = "run tests/support/citations.py"


def test_every_statement_is_shown():
    """Or its table row says what has to be built first; nothing that is cited is said to be missing."""
    found = citations.cited()
    missing = [n for n in citations.STATEMENTS if n not in found and not citations.reason(n)]
    assert not missing, "cite them in the tests that show them"
    built = [n for n in found if citations.reason(n)]
    assert not built, f"cited, but not built by {citations.__name__}"
    unknown = set(found) - set(citations.STATEMENTS)
    assert not unknown, "there are no such statements"


def test_the_table_names_tests_that_cite():
    found, table = citations.cited(), citations.read()
    assert list(table) == citations.STATEMENTS, ADVICE
    for statement, entries in table.items():
        if why := citations.reason(statement):
            assert entries == [why], ADVICE
        else:
            assert entries and set(entries) <= set(found[statement]), f"{statement}: {ADVICE}"
