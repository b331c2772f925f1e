"""Arrays on the wire: NumPy's ``.npy`` format, written plainly and read with suspicion.

The header of an array is checked before its body is believed: a 128-byte header can claim a
terabyte, an object array runs code when it is unpickled, and ``numpy.load`` finds out too late.
Nothing here unpickles anything.
"""

from __future__ import annotations

import ast
import functools
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import WireError

MAGIC = b"\x93NUMPY"
LARGEST_HEADER = 4096
KINDS = "buif"  # booleans, integers, floats: plain values only


def dumps(array: np.ndarray[Any, Any]) -> bytes:
    """Give the ``.npy`` bytes of an array: C order, little-endian, format version 1.0.

    Raises ``WireError`` for objects, strings, complex numbers and times.
    """
    array = np.asarray(array)
    if array.dtype.kind not in KINDS:
        raise WireError(f"cannot send an array of {array.dtype}: wanted whole numbers or floats")
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return _header(array.dtype.str, array.shape) + array.tobytes()


def loads(
    body: bytes,
    *,
    dtype: str | None = None,
    shape: Sequence[int | None] | None = None,
    largest: int = 1 << 28,
) -> np.ndarray[Any, Any]:
    """Read an array from ``.npy`` bytes: writable, C-contiguous, the machine's byte order.

    ``dtype``: its name, such as ``"uint8"``, if only that will do. ``shape``: the wanted shape,
    with None where any length will do. ``largest``: bytes of values at most. Raises ``WireError``
    that says what was got and what was wanted; the header is checked before the values are.
    """
    found, fortran, got, start = _parse(body)
    if dtype is not None and found != np.dtype(dtype):
        raise WireError(f"got an array of {found.name}, wanted {dtype}")
    if shape is not None and not _fits(got, shape):
        raise WireError(f"got an array of shape {got}, wanted {_describe(shape)}")
    size = found.itemsize * math.prod(got)
    if size > largest:
        raise WireError(f"the header claims {size} bytes, wanted at most {largest}")
    if len(body) - start != size:
        raise WireError(f"the header claims {size} bytes of values, got {len(body) - start}")
    values = np.frombuffer(body, dtype=found, offset=start)
    values = values.reshape(got[::-1]).T if fortran else values.reshape(got)
    # A copy, in the machine's own byte order: frombuffer's view can't be written to.
    return np.array(values, dtype=found.newbyteorder("="), order="C")


def _parse(body: bytes) -> tuple[np.dtype[Any], bool, tuple[int, ...], int]:
    if body[:6] != MAGIC:
        raise WireError(f"not a .npy array: it starts with {bytes(body[:6])!r}, wanted {MAGIC!r}")
    version = tuple(body[6:8])
    if version == (1, 0):
        start, layout = 10, "<H"
    elif version in ((2, 0), (3, 0)):
        start, layout = 12, "<I"
    else:
        raise WireError(f"got .npy version {version}, wanted 1.0, 2.0 or 3.0")
    if len(body) < start:
        raise WireError("the .npy array ends in the middle of its header")
    (length,) = struct.unpack(layout, body[8:start])
    if length > LARGEST_HEADER:
        raise WireError(f"the .npy header is {length} bytes long, wanted {LARGEST_HEADER} at most")
    if len(body) < start + length:
        raise WireError("the .npy array ends in the middle of its header")
    found, fortran, shape = _fields(bytes(body[start : start + length]))
    return found, fortran, shape, start + length


@functools.lru_cache(maxsize=256)
def _fields(header: bytes) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """Parse a header. Cached, since an attack sends the same few headers again and again."""
    try:
        fields = ast.literal_eval(header.decode("latin1").strip())
        descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
        found = np.dtype(descr) if isinstance(descr, str) else None
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        raise WireError("the .npy header is not one that NumPy writes") from None
    if found is None or found.kind not in KINDS or found.subdtype is not None:
        raise WireError(f"got an array of {descr!r}, wanted plain whole numbers or floats")
    if not isinstance(fortran, bool) or not isinstance(shape, tuple) or len(shape) > 8:
        raise WireError("the .npy header is not one that NumPy writes")
    if not all(type(length) is int and 0 <= length < 2**48 for length in shape):
        raise WireError(f"the .npy header claims the shape {shape}")
    return found, fortran, shape


@functools.lru_cache(maxsize=256)
def _header(descr: str, shape: tuple[int, ...]) -> bytes:
    text = repr({"descr": descr, "fortran_order": False, "shape": tuple(map(int, shape))})
    # NumPy aligns the values to 64 bytes and ends the header with a newline.
    padding = -(10 + len(text) + 1) % 64
    text += " " * padding + "\n"
    return MAGIC + b"\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin1")


def _fits(got: tuple[int, ...], wanted: Sequence[int | None]) -> bool:
    return len(got) == len(wanted) and all(
        length is None or length == got[axis] for axis, length in enumerate(wanted)
    )


def _describe(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("any" if length is None else str(length) for length in shape) + ")"
