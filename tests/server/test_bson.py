"""BSON: the 2018 package's own bytes, what is refused, and that both ways agree."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import bson

REQUEST = bytes.fromhex(
    "6800000003696d616765005c00000002747970650006000000617272617900047368617065001a000000103000"
    "0200000010310002000000103200030000000002647479706500040000007c7531000564617461000c00000000"
    "000102030405060708090a0b0000"
)
"""What the package's client sends for a 2x2x3 image that holds 0 to 11."""
REPLY = bytes.fromhex("150000001070726564696374696f6e001100000000")
"""What its server answers for the label 17."""

plain = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8)
)
keys = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=4)
values = plain | st.lists(plain, max_size=3) | st.dictionaries(keys, plain, max_size=3)


def test_a_request_of_the_package_is_read_and_written_byte_for_byte() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert bson.dumps({"image": bson.as_document(pixels)}) == REQUEST
    read = bson.array(bson.loads(REQUEST)["image"])
    assert read.dtype == np.uint8
    assert np.array_equal(read, pixels)


def test_a_reply_of_the_package_is_read_and_written_byte_for_byte() -> None:
    assert bson.dumps({"prediction": 17}) == REPLY
    assert bson.loads(REPLY) == {"prediction": 17}


def test_a_64x64x3_request_has_12380_bytes() -> None:
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    assert len(bson.dumps({"image": bson.as_document(pixels)})) == 12380


@given(st.dictionaries(st.sampled_from("abc"), values))
def test_what_is_written_is_read_again(document: dict[str, Any]) -> None:
    assert bson.loads(bson.dumps(document)) == document


@given(st.integers(0, len(REQUEST) - 1), st.integers(0, 255))
def test_a_damaged_request_is_read_or_refused_and_nothing_else(place: int, value: int) -> None:
    damaged = REQUEST[:place] + bytes([value]) + REQUEST[place + 1 :]
    try:
        bson.array(bson.loads(damaged).get("image"))
    except bson.NotBson as error:
        assert str(error)  # noqa: PT017 - both outcomes are right


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused_and_nothing_else(body: bytes) -> None:
    try:
        assert isinstance(bson.loads(body), dict)
    except bson.NotBson as error:
        assert str(error)  # noqa: PT017 - both outcomes are right


@pytest.mark.parametrize("length", range(len(REQUEST)))
def test_a_request_that_is_cut_off_is_refused(length: int) -> None:
    with pytest.raises(bson.NotBson):
        bson.loads(REQUEST[:length])


def nested(depth: int) -> bytes:
    document: dict[str, Any] = {}
    for _ in range(depth - 1):
        document = {"a": document}
    return bson.dumps(document)


def test_depth_and_number_of_values_are_limited() -> None:
    assert bson.loads(nested(bson.DEPTH))
    with pytest.raises(bson.NotBson, match="deep"):
        bson.loads(nested(bson.DEPTH + 1))
    assert bson.loads(bson.dumps({"a": [None] * (bson.ELEMENTS - 1)}))
    with pytest.raises(bson.NotBson, match="values"):
        bson.loads(bson.dumps({"a": [None] * bson.ELEMENTS}))


def element(kind: int, data: bytes, name: bytes = b"a") -> bytes:
    inside = bytes([kind]) + name + b"\0" + data
    return struct.pack("<i", len(inside) + 5) + inside + b"\0"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (element(0x11, bytes(8)), "0x11"),
        (element(0x07, bytes(12)), "0x07"),
        (element(0x05, struct.pack("<iB", 1, 4) + b"x"), "subtype 4"),
        (element(0x05, struct.pack("<iB", 1 << 30, 0)), "cut off"),
        (element(0x05, struct.pack("<iB", -5, 0)), "cut off"),
        (element(0x02, struct.pack("<i", 0)), "length of 0"),
        (element(0x02, struct.pack("<i", 2) + b"ab"), "no end"),
        (element(0x02, struct.pack("<i", 2) + b"\xff\0"), "UTF-8"),
        (element(0x08, b"\x02"), "bool"),
        (element(0x04, element(0x0A, b"", b"7")), "numbered"),
        (REPLY + b"x", "follow the document"),
        (REPLY[:-1] + b"x", "does not end there"),
        (struct.pack("<i", 11) + b"\x0aa\0\x0aa\0\0", "twice"),
    ],
)
def test_what_is_no_plain_document_is_refused_with_a_reason(body: bytes, words: str) -> None:
    with pytest.raises(bson.NotBson, match=words):
        bson.loads(body)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dtype": "|O"}, "plain numbers"),
        ({"dtype": "V8"}, "plain numbers"),
        ({"dtype": "nonsense"}, "plain numbers"),
        ({"dtype": "<f8"}, "which is 96 bytes, and has 12"),
        ({"dtype": 3}, "dtype"),
        ({"shape": [1 << 40, 1 << 40]}, "bytes"),
        ({"shape": [-1, 3]}, "claims the shape"),
        ({"shape": "2x2"}, "claims the shape"),
        ({"data": "text"}, "lacks its data"),
        ({"type": "list"}, "wanted an array"),
    ],
)
def test_an_array_that_is_none_is_refused_with_a_reason(change: dict[str, Any], words: str) -> None:
    document = bson.as_document(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)) | change
    with pytest.raises(bson.NotBson, match=words):
        bson.array(document)


@pytest.mark.parametrize("value", [1 << 63, 1j, {1, 2}])
def test_a_value_that_bson_lacks_is_not_written(value: Any) -> None:
    with pytest.raises(TypeError):
        bson.dumps({"a": value})
