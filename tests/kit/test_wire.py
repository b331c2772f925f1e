from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kit import WireError, wire

Array = np.ndarray[Any, Any]

KINDS = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
)
ARRAYS = hnp.arrays(KINDS, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))


def numpy_bytes(array: Array, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version, allow_pickle=True)
    return file.getvalue()


def npy(header: str, body: bytes = b"") -> bytes:
    text = header.encode()
    return wire.MAGIC + b"\x01\x00" + struct.pack("<H", len(text)) + text + body


@given(ARRAYS)
def test_what_is_written_comes_back(array: Array) -> None:
    back = wire.loads(wire.dumps(array))
    assert back.dtype == array.dtype.newbyteorder("=")
    assert back.shape == array.shape
    assert back.tobytes() == array.astype(back.dtype).tobytes()
    assert back.flags.writeable
    assert back.flags.c_contiguous


@given(ARRAYS)
def test_numpy_reads_what_is_written(array: Array) -> None:
    back = np.load(io.BytesIO(wire.dumps(array)), allow_pickle=False)
    assert back.shape == array.shape
    assert back.tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()


@given(ARRAYS, st.sampled_from([(1, 0), (2, 0), (3, 0)]), st.booleans())
def test_what_numpy_writes_is_read(array: Array, version: tuple[int, int], fortran: bool) -> None:
    array = np.asfortranarray(array) if fortran else array
    back = wire.loads(numpy_bytes(array, version))
    assert back.shape == array.shape
    assert back.tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        wire.loads(body)


@given(st.binary(max_size=200), st.sampled_from([b"\x01\x00", b"\x02\x00"]))
def test_arbitrary_headers_are_refused_or_read(header: bytes, version: bytes) -> None:
    layout = "<H" if version == b"\x01\x00" else "<I"
    with pytest.raises(WireError):
        wire.loads(wire.MAGIC + version + struct.pack(layout, len(header)) + header)


@given(st.integers(0, 200))
def test_a_cut_array_is_refused(length: int) -> None:
    whole = wire.dumps(np.zeros((4, 20), dtype=np.uint8))
    with pytest.raises(WireError):
        wire.loads(whole[:length])


def test_objects_are_not_unpickled() -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("unpickled",))

    body = numpy_bytes(np.array([Bomb()], dtype=object))
    with pytest.raises(WireError, match="plain whole numbers"):
        wire.loads(body)


def test_a_header_that_claims_a_terabyte_is_refused_unread() -> None:
    body = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776,), }")
    with pytest.raises(WireError, match="claims 1099511627776 bytes, wanted at most"):
        wire.loads(body)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "plain whole numbers"),
        ("{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", "plain whole numbers"),
        ("{'descr': '<U4', 'fortran_order': False, 'shape': (1,)}", "plain whole numbers"),
        ("{'descr': '(2,)u1', 'fortran_order': False, 'shape': (1,)}", "plain whole numbers"),
        ("{'descr': [('a', 'u1')], 'fortran_order': False, 'shape': (1,)}", "plain whole"),
        ("{'descr': '|u1', 'fortran_order': 0, 'shape': (1,)}", "not one that NumPy writes"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': [1]}", "not one that NumPy writes"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}", "claims the shape"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (True,)}", "claims the shape"),
        ("{'descr': '|u1', 'shape': (1,)}", "not one that NumPy writes"),
        ("__import__('os').abort()", "not one that NumPy writes"),
        ("(" * 3000, "not one that NumPy writes"),
        (" " * 5000, "header is 5000 bytes long"),
    ],
)
def test_a_bad_header_is_refused_with_its_reason(header: str, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        wire.loads(npy(header, b"\0"))


def test_what_was_got_and_wanted_is_said() -> None:
    floats = wire.dumps(np.zeros((2, 3)))
    with pytest.raises(WireError, match="got an array of float64, wanted uint8"):
        wire.loads(floats, dtype="uint8")
    with pytest.raises(WireError, match=r"shape \(2, 3\), wanted \(any, 4\)"):
        wire.loads(floats, shape=(None, 4))
    with pytest.raises(WireError, match="claims 48 bytes of values, got 49"):
        wire.loads(floats + b"\0")


@pytest.mark.parametrize("value", [None, "text", 1j, np.datetime64("2018-11-22")])
def test_only_plain_numbers_are_sent(value: object) -> None:
    with pytest.raises(WireError, match="cannot send"):
        wire.dumps(np.asarray(value))
