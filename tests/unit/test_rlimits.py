"""linux/rlimits.py against the system call, by way of the standard library."""

import resource

from skerry.linux import rlimits
from skerry.linux.abi import RLIMITS


def test_every_limit_is_what_the_kernel_says():
    found = rlimits.own()
    assert {name: found[number] for name, number in RLIMITS.items()} == {
        name: resource.getrlimit(number) for name, number in RLIMITS.items()
    }


def test_a_changed_limit_shows_both_values():
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (7, before[1]))
    try:
        assert rlimits.own()[RLIMITS["RLIMIT_CORE"]] == (7, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    assert rlimits.own()[RLIMITS["RLIMIT_CORE"]] == before


def test_no_limit_is_minus_one():
    assert resource.RLIM_INFINITY == rlimits.INFINITY
