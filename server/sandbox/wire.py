"""NumPy's .npy on the wire, read with suspicion: the header is checked before the body is believed.

A 128-byte header can claim a terabyte, and an object array runs code when it is unpickled. Nothing
here allocates by a header's word, and nothing unpickles.
"""

from __future__ import annotations

import ast
import functools
import io
import math
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

HEADER_BYTES = 4096
"""Room for a header: NumPy writes 128 bytes for plain arrays."""


class NotAnArray(ValueError):
    """The bytes are not a .npy array that we read. The message is for its author."""


def dumps(array: NDArray[Any]) -> bytes:
    """The .npy bytes of a plain array, C order."""
    return _written_header(array.dtype.str, array.shape) + array.tobytes()


def loads(body: bytes) -> NDArray[Any]:
    """Any plain array (bool, integers, floats); read-only, it shares the body's memory.

    Raises:
        NotAnArray: not .npy, objects inside, or a body whose length differs from its header's word.
    """
    if body[:6] != b"\x93NUMPY":
        raise NotAnArray(
            f"the body starts with {body[:6]!r}, wanted a .npy array: write it with numpy.save"
        )
    start = _header_end(body)
    dtype, fortran, shape = _header(body[:start])
    wanted = dtype.itemsize * math.prod(shape)
    if len(body) - start != wanted:
        raise NotAnArray(
            f"the .npy header says {dtype.name} {shape}, which is {wanted} bytes, and "
            f"{len(body) - start} bytes follow; send the whole array and nothing after it"
        )
    values = np.frombuffer(body, dtype, offset=start)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def _header_end(body: bytes) -> int:
    major = body[6] if len(body) > 6 else 0
    if major not in (1, 2):
        raise NotAnArray(f"got .npy version {major}, wanted 1 or 2: write it with numpy.save")
    start = 8 + 2 * major
    end = start + int.from_bytes(body[8:start], "little")
    if end > min(len(body), HEADER_BYTES):
        raise NotAnArray("the .npy header is cut off or too long; write it with numpy.save")
    return end


@functools.lru_cache(maxsize=512)
def _header(header: bytes) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """Parse a header. Cached: an attack sends the same few again and again."""
    try:
        fields = ast.literal_eval(header[8 + 2 * header[6] :].decode("latin-1").strip())
        descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
        dtype = np.dtype(descr) if isinstance(descr, str) else np.dtype(object)
    except (ValueError, SyntaxError, TypeError, LookupError, RecursionError, MemoryError) as error:
        raise NotAnArray("the .npy header is not one that numpy.save writes") from error
    if dtype.kind not in "buif":
        raise NotAnArray(
            f"got an array of {str(descr)[:40]!r}; only plain numbers are read, never pickled "
            "objects: convert it with .astype(np.uint8)"
        )
    if not isinstance(shape, tuple) or len(shape) > 8 or not isinstance(fortran, bool):
        raise NotAnArray("the .npy header is not one that numpy.save writes")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise NotAnArray(f"the .npy header claims the shape {str(shape)[:60]}")
    return dtype, fortran, shape


@functools.lru_cache(maxsize=512)
def _written_header(descr: str, shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()
