"""The codec against the official library: odd encodings, and bytes that are no message."""

import random

import pytest
from google.protobuf.message import DecodeError
from support.protos import CLASSES

from skerry.errors import RpcError
from skerry.shims.task import protobuf
from skerry.shims.task.protobuf import decode, encode

INNER = ((1, "value", "int32"), (2, "next", ((1, "value", "int32"),)), (3, "values", ["int32"]))
ODD = (
    (1, "flag", "bool"),
    (2, "small", "int32"),
    (3, "large", "int64"),
    (4, "count", "uint32"),
    (5, "big", "uint64"),
    (6, "ratio", "double"),
    (7, "text", "string"),
    (8, "raw", "bytes"),
    (9, "numbers", ["uint64"]),
    (10, "words", ["string"]),
    (11, "inners", [INNER]),
    (12, "inner", INNER),
    (13, "ratios", ["double"]),
)
SCALARS = ("flag", "small", "large", "count", "big", "ratio", "text", "raw")
Official = CLASSES["Odd"]


def same(data: bytes) -> dict:
    """Read by both; what they have read is equal."""
    official = Official.FromString(data)
    ours = decode(ODD, data)
    for name in SCALARS:
        assert ours[name] == getattr(official, name), name
    for name in ("numbers", "words", "ratios"):
        assert ours[name] == list(getattr(official, name)), name
    assert [inner["value"] for inner in ours["inners"]] == [i.value for i in official.inners]
    assert (ours["inner"] is not None) == official.HasField("inner")
    if ours["inner"] is not None:
        assert ours["inner"]["value"] == official.inner.value
        assert ours["inner"]["values"] == list(official.inner.values)
    return ours


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08\x80\x00",  # false in two bytes
        b"\x08\x02",  # true as 2
        b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # -1 in ten bytes
        b"\x10\xff\xff\xff\xff\x0f",  # -1 in five
        b"\x20\xff\xff\xff\xff\xff\x01",  # more than 32 bits: cut
        b"\x18\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",  # the smallest int64
        b"\x3a\x01a\x3a\x01b",  # the last one counts
        b"\x48\x01\x48\x02\x4a\x02\x03\x04",  # numbers, packed and not
        b"\x62\x02\x08\x05\x62\x03\x1a\x01\x07",  # two halves of a message are merged
        b"\x5a\x02\x08\x01\x5a\x00",
        b"\x6a\x10" + b"\0" * 6 + b"\xf0\x3f" + b"\0" * 6 + b"\xf0\xbf",
        b"\x7a\x03abc\x08\x01",  # a field that no one knows
        b"\xfa\xff\xff\xff\x0f\x00",  # the largest number of one
        b"\x7b\x08\x01\x7c\x08\x01",  # a group, skipped
        b"\x7b\x83\x01\x84\x01\x7c",  # a group in a group
        b"\x0a\x01a",  # a known number with another wire type
        b"\x12\x00\x38\x01",
        b"\x7d\x01\x02\x03\x04\x79" + b"\0" * 8,  # unknown, of fixed sizes
    ],
)
def test_odd_encodings(data):
    same(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",  # no value
        b"\x08" + b"\xff" * 11,  # a number without end
        b"\x3a\x05ab",  # cut short
        b"\x3a\xff\xff\xff\xff\x0f" + b"a" * 10,
        b"\x3a\x01\xff",  # not UTF-8
        b"\x52\x02\xc3\x28",
        b"\x00\x01",  # a field 0
        b"\x0e\x01",  # wire types 6 and 7
        b"\x0f\x01",
        b"\x7b\x08\x01",  # a group without end
        b"\x7b\x08\x01\x84\x01",  # another one's end
        b"\x7c",  # an end without beginning
        b"\x4a\x01\x80",  # cut short in a packed list
        b"\x6a\x07" + b"\0" * 7,
        b"\x31\x00",  # eight bytes, of which one is there
        b"\x62\x01\x08",  # inside
        b"\x7b" * 5000,
    ],
)
def test_no_message(data):
    with pytest.raises(RpcError):
        decode(ODD, data)
    with pytest.raises(DecodeError):
        Official.FromString(data)


def test_every_cut_of_a_message():
    whole = encode(
        ODD,
        {
            "flag": True, "small": -5, "large": 7, "text": "text", "numbers": [1, 300], "words": ["a", "b"],
            "inners": [{"value": 1}], "inner": {"value": -1, "values": [1, 2]}, "ratio": 1.5, "ratios": [2.5],
        },
    )  # fmt: skip
    for end in range(len(whole) + 1):
        agree(whole[:end])


def agree(data: bytes) -> bool:
    """Both take it and read the same, or neither."""
    try:
        Official.FromString(data)
    except DecodeError:
        with pytest.raises(RpcError):
            decode(ODD, data)
        return False
    same(data)
    return True


def test_random_bytes():
    """Mutations of messages: we agree with the official library about every one."""
    rng = random.Random(7)
    seeds = [
        encode(ODD, {"text": "abc", "numbers": [1, 2, 2**40], "inner": {"value": 4}, "ratio": 0.5}),
        encode(
            ODD,
            {"words": ["x", "yz"], "inners": [{"values": [-1]}, {}], "raw": b"\0\1", "big": 2**63},
        ),
    ]
    taken = 0
    for _ in range(4000):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        taken += agree(bytes(data))
    assert 100 < taken < 3900


def test_depth_is_bounded():
    data = b""
    for _ in range(200):
        data = b"\x12" + protobuf.to_varint(len(data)) + data
    deep: list = [(1, "value", "int32")]
    table: tuple = tuple(deep)
    for _ in range(150):
        table = ((2, "next", table),)
    with pytest.raises(RpcError, match="too deeply"):
        decode(table, data)


def test_a_field_that_has_its_default_is_not_sent():
    assert encode(ODD, {"flag": False, "small": 0, "text": "", "numbers": [], "inner": None}) == b""
    assert encode(ODD, {"inner": {}}) == b"\x62\x00"
