"""check_resources and check_process by themselves: the documents of update and exec."""

import copy
from typing import Any

import pytest
from spec_samples import ABSENT, full_process, full_resources, put

from skerry.errors import SpecError
from skerry.spec.validate import check_process, check_resources

BAD: list[tuple[str, object, str | None]] = [
    ("/memory", [], None),
    ("/memory/limit", -5, None),
    ("/memory/limit", -2, None),
    ("/memory/limit", 1e30, None),
    ("/memory/limit", "1g", None),
    ("/memory/limit", True, None),
    ("/memory/limit", 2**63, None),
    ("/memory/reservation", 0.5, None),
    ("/memory/swap", 1 << 29, None),
    ("/memory/swappiness", 101, None),
    ("/memory/swappiness", -1, None),
    ("/memory/disableOOMKiller", "no", None),
    ("/cpu", 5, None),
    ("/cpu/shares", -1, None),
    ("/cpu/quota", 1, None),
    ("/cpu/quota", 999, None),
    ("/cpu/quota", -2, None),
    ("/cpu/burst", 100001, None),
    ("/cpu/period", 999, None),
    ("/cpu/period", 1000001, None),
    ("/cpu/cpus", "zz", None),
    ("/cpu/cpus", "3-1", None),
    ("/cpu/cpus", "1,,2", None),
    ("/cpu/cpus", "-1", None),
    ("/cpu/cpus", "1-", None),
    ("/cpu/cpus", "１", None),
    ("/cpu/cpus", "1_0", None),
    ("/cpu/cpus", 1, None),
    ("/cpu/mems", "a", None),
    ("/cpu/idle", 2, None),
    ("/cpu/realtimeRuntime", "x", None),
    ("/pids", {}, "/pids/limit"),
    ("/pids/limit", -2, None),
    ("/pids/limit", "max", None),
    ("/devices", {}, None),
    ("/devices/0/allow", ABSENT, None),
    ("/devices/0/allow", 1, None),
    ("/devices/0/access", "xyz", None),
    ("/devices/0/access", 5, None),
    ("/devices/1/type", "p", None),
    ("/devices/1/major", -2, None),
    ("/devices/1/minor", "*", None),
    ("/unified", [], None),
    ("/unified/memory.high", 5, None),
    ("/unified/..~1memory.high", "1", None),
    ("/unified/a~1memory.high", "1", None),
    ("/unified/..", "1", None),
    ("/unified/memory", "1", None),
    ("/unified/", "1", None),
    ("/blockIO/weight", 9, None),
    ("/blockIO/weight", 1001, None),
    ("/blockIO/weight", 65536, None),
    ("/blockIO/weightDevice/0/major", ABSENT, None),
    ("/blockIO/weightDevice/0/leafWeight", 1, None),
    ("/blockIO/throttleReadBpsDevice/0/rate", -1, None),
    ("/blockIO/throttleReadBpsDevice/0/rate", ABSENT, None),
    ("/blockIO/throttleWriteIOPSDevice/0/minor", "0", None),
    ("/hugepageLimits/0/pageSize", "64kB", None),
    ("/hugepageLimits/0/pageSize", "02MB", None),
    ("/hugepageLimits/0/pageSize", "MB", None),
    ("/hugepageLimits/0/pageSize", "", None),
    ("/hugepageLimits/0/pageSize", "2MB/../x", None),
    ("/hugepageLimits/0/limit", ABSENT, None),
    ("/hugepageLimits/0/limit", -1, None),
    ("/network/classID", 2**32, None),
    ("/network/priorities/0/name", "../eth0", None),
    ("/network/priorities/0/name", "a b", None),
    ("/network/priorities/0/name", "x" * 16, None),
    ("/network/priorities/0/priority", ABSENT, None),
    ("/rdma/mlx5_1", "x", None),
    ("/rdma/mlx5_1/hcaHandles", "not a uint32", None),
]


@pytest.mark.parametrize(
    ("place", "value", "pointer"), BAD, ids=[f"{n} {row[0]}" for n, row in enumerate(BAD)]
)
def test_refuses(place: str, value: object, pointer: str | None) -> None:
    """security.md section 8, and config-linux.json."""
    resources = full_resources()
    put(resources, place, value)
    with pytest.raises(SpecError) as caught:
        check_resources(resources, "/r")
    assert caught.value.pointer == "/r" + (place if pointer is None else pointer)


def test_takes_everything_supported() -> None:
    resources = full_resources()
    before = copy.deepcopy(resources)
    assert check_resources(resources) == []
    assert resources == before
    assert check_resources({}) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("/memory/limit", -1),
        ("/memory/limit", 0),
        ("/memory/swap", -1),
        ("/cpu/quota", -1),
        ("/cpu/quota", 0),
        ("/cpu/cpus", ""),
        ("/cpu/cpus", "0-3,5,7-7"),
        ("/devices/0/access", ""),
        ("/devices/1/type", "a"),
        ("/blockIO/weight", 0),
        ("/pids/limit", 0),
    ],
)
def test_takes(place: str, value: object) -> None:
    resources = full_resources()
    put(resources, place, value)
    assert check_resources(resources) == []


def test_limits_the_kernel_dropped_warn() -> None:
    warnings = check_resources({"memory": {"kernel": 1000, "kernelTCP": -1}})
    assert [text.partition(":")[0] for text in warnings] == [
        "/linux/resources/memory/kernel",
        "/linux/resources/memory/kernelTCP",
    ]


@pytest.mark.parametrize("document", [[], None, 5, "x"])
def test_documents_that_are_no_object(document: Any) -> None:
    for check in (check_resources, check_process):
        with pytest.raises(SpecError) as caught:
            check(document, "")
        assert caught.value.pointer == ""


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("/cwd", ABSENT, "/cwd: Cwd property must not be empty"),
        ("/cwd", "", "/cwd: Cwd property must not be empty"),
        ("/cwd", "x", "/cwd: Cwd must be an absolute path"),
        ("/args", ABSENT, "/args: args must not be empty"),
        ("/args", [], "/args: args must not be empty"),
    ],
)
def test_words_of_exec(place: str, value: object, message: str) -> None:
    """lifecycle 96."""
    process = full_process()
    put(process, place, value)
    with pytest.raises(SpecError) as caught:
        check_process(process, "")
    assert str(caught.value) == message
    assert check_process(full_process(), "") == []
