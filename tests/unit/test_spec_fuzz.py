"""Whatever stands where in a spec: it is accepted or refused by SpecError, and never changed."""

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest
from spec_samples import full_process, full_resources, full_spec

from skerry.errors import SpecError
from skerry.spec.validate import check_process, check_resources, check_spec

JUNK: list[Any] = [
    None, True, False, 0, -1, 2**32, 2**64, 10**5000, 1.5, 1e308, "", "\0", "x", "/", "..", "é" * 99,
    "-", ":", "0-", "=", [], {}, [None], [[]], [{}], {"": None}, {"x": []}, ["x"] * 3, [1, "a"],
]  # fmt: skip
ROUNDS = 600


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    for key, child in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(child, (dict, list)):
            yield from places(child)


@pytest.mark.parametrize(
    ("make", "check"),
    [(full_spec, check_spec), (full_process, check_process), (full_resources, check_resources)],
    ids=["spec", "process", "resources"],
)
def test_junk_anywhere(make: Any, check: Any) -> None:
    """security.md section 7: any input ends in one clear line; seeded, so that it repeats."""
    source = random.Random(20_260_101)
    refused = 0
    for _ in range(ROUNDS):
        document = make()
        for _ in range(source.choice((1, 1, 2, 4))):
            here, key = source.choice(list(places(document)))
            if isinstance(here, dict) and source.random() < 0.2:
                del here[key]
            else:
                here[key] = copy.deepcopy(source.choice(JUNK))
        before = copy.deepcopy(document)
        try:
            warnings = check(document)
        except SpecError as error:
            refused += 1
            assert str(error).isprintable() and len(str(error)) <= 600
            assert error.pointer == "" or error.pointer.startswith("/")
        else:
            assert all(isinstance(text, str) for text in warnings)
        assert document == before
    assert ROUNDS * 0.3 < refused < ROUNDS
