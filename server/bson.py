"""BSON as the 2018 challenge speaks it, read with suspicion: documents of plain values, no more.

Types: double, string, document, array, binary (subtype 0), bool, null, int32, int64. Arrays of
pixels travel as documents {"type": "array", "shape", "dtype", "data"}; `array` and `as_document`
turn them into NumPy arrays and back. Nothing is allocated by a length's word and nothing is
unpickled.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

DEPTH: Final = 8
"""Documents within documents; a 2018 request has three."""

ELEMENTS: Final = 1024
"""Values in all documents of a message together; a 2018 request has eight."""

INT32: Final = range(-(1 << 31), 1 << 31)
INT64: Final = range(-(1 << 63), 1 << 63)


class NotBson(ValueError):
    """The bytes are not a document that we read. The message is for its author."""


def dumps(document: Mapping[str, Any]) -> bytes:
    """The bytes of a document, keys in their order.

    Raises:
        TypeError: a value of a type that is not on the list.
    """
    return _document(document)


def loads(body: bytes) -> dict[str, Any]:
    """Read one document that fills the body.

    Raises:
        NotBson: damaged, too deep, too many values, or a type that is not on the list.
    """
    return _Reader(body).message()


def as_document(array: NDArray[Any]) -> dict[str, Any]:
    """A NumPy array as the document that the 2018 package makes of it."""
    return {
        "type": "array",
        "shape": list(array.shape),
        "dtype": array.dtype.str,
        "data": array.tobytes(),
    }


def array(value: Any) -> NDArray[Any]:
    """A plain array (bool, integers, floats) from its document; read-only, shares the bytes.

    Raises:
        NotBson: not such a document, objects inside, or a length that differs from its shape.
    """
    if not isinstance(value, dict) or value.get("type") != "array":
        raise NotBson('wanted an array: {"type": "array", "shape", "dtype", "data"}')
    shape, name, data = value.get("shape"), value.get("dtype"), value.get("data")
    lengths = isinstance(shape, list) and len(shape) <= 8
    if not lengths or not all(type(n) is int and n >= 0 for n in shape or ()):
        raise NotBson(f"an array claims the shape {str(shape)[:60]}")
    assert isinstance(shape, list)
    if not isinstance(data, bytes) or not isinstance(name, str):
        raise NotBson("an array lacks its data (binary) or its dtype (a text such as '|u1')")
    dtype = _dtype(name)
    wanted = dtype.itemsize * math.prod(shape)
    if len(data) != wanted:
        raise NotBson(
            f"an array says {dtype.name} {tuple(shape)}, which is {wanted} bytes, and has "
            f"{len(data)}"
        )
    return np.frombuffer(data, dtype).reshape(shape)


def _dtype(name: str) -> np.dtype[Any]:
    try:
        dtype = np.dtype(name) if len(name) < 8 else np.dtype(object)
    except (TypeError, ValueError, SyntaxError):
        dtype = np.dtype(object)
    if dtype.kind not in "buif":
        raise NotBson(f"got an array of {name[:20]!r}; only plain numbers are read: send uint8")
    return dtype


def _document(values: Mapping[str, Any]) -> bytes:
    inside = b"".join(_element(key, value) for key, value in values.items())
    return struct.pack("<i", len(inside) + 5) + inside + b"\0"


def _element(key: str, value: Any) -> bytes:
    name = key.encode()
    if b"\0" in name:
        raise TypeError(f"the key {key!r} holds a NUL")
    kind, data = _value(value)
    return kind + name + b"\0" + data


def _value(value: Any) -> tuple[bytes, bytes]:
    match value:
        case None:
            return b"\x0a", b""
        case bool():
            return b"\x08", b"\1" if value else b"\0"
        case int() if value in INT32:
            return b"\x10", struct.pack("<i", value)
        case int() if value in INT64:
            return b"\x12", struct.pack("<q", value)
        case float():
            return b"\x01", struct.pack("<d", value)
        case str():
            text = value.encode() + b"\0"
            return b"\x02", struct.pack("<i", len(text)) + text
        case bytes():
            return b"\x05", struct.pack("<iB", len(value), 0) + value
        case Mapping():
            return b"\x03", _document(value)
        case Sequence():
            return b"\x04", _document({str(place): item for place, item in enumerate(value)})
    raise TypeError(f"{type(value).__name__} {str(value)[:40]} can't be written as BSON")


class _Reader:
    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0
        self._elements = 0

    def message(self) -> dict[str, Any]:
        document = self._document(1)
        if self._at != len(self._body):
            raise NotBson(f"{len(self._body) - self._at} bytes follow the document")
        return document

    def _document(self, depth: int) -> dict[str, Any]:
        if depth > DEPTH:
            raise NotBson(f"documents within documents, more than {DEPTH} deep")
        start = self._at
        (length,) = self._unpack("<i")
        end = start + length
        if length < 5 or end > len(self._body) or self._body[end - 1] != 0:
            raise NotBson(f"a document claims {length} bytes and does not end there")
        found: dict[str, Any] = {}
        while self._at < end - 1:
            self._elements += 1
            if self._elements > ELEMENTS:
                raise NotBson(f"more than {ELEMENTS} values")
            (kind,) = self._take(1)
            key = self._name(end)
            if key in found:
                raise NotBson(f"the key {key[:40]!r} stands twice in a document")
            found[key] = self._value(kind, key, depth)
        if self._at != end - 1:
            raise NotBson("a value reaches beyond its document")
        self._at = end
        return found

    def _name(self, end: int) -> str:
        stop = self._body.find(b"\0", self._at, end)
        if stop < 0:
            raise NotBson("a key has no end")
        name = self._text(self._take(stop - self._at))
        self._at += 1
        return name

    def _value(self, kind: int, key: str, depth: int) -> Any:
        match kind:
            case 0x01:
                return self._unpack("<d")[0]
            case 0x02:
                text = self._sized(1)
                if text[-1] != 0:
                    raise NotBson(f"the text {key[:40]!r} has no end")
                return self._text(text[:-1])
            case 0x03:
                return self._document(depth + 1)
            case 0x04:
                items = self._document(depth + 1)
                if list(items) != [str(place) for place in range(len(items))]:
                    raise NotBson(f"the array {key[:40]!r} is not numbered 0, 1, 2, ...")
                return list(items.values())
            case 0x05:
                (length, subtype) = self._unpack("<iB")
                if subtype != 0:
                    raise NotBson(f"{key[:40]!r} is binary of subtype {subtype}, wanted 0")
                return self._take(length)
            case 0x08:
                (flag,) = self._take(1)
                if flag > 1:
                    raise NotBson(f"the bool {key[:40]!r} is {flag}")
                return bool(flag)
            case 0x0A:
                return None
            case 0x10:
                return self._unpack("<i")[0]
            case 0x12:
                return self._unpack("<q")[0]
        raise NotBson(f"{key[:40]!r} has the type 0x{kind:02x}, which is not read here")

    def _sized(self, least: int) -> bytes:
        (length,) = self._unpack("<i")
        if length < least:
            raise NotBson(f"a length of {length}")
        return self._take(length)

    def _unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self._take(struct.calcsize(form)))

    def _take(self, count: int) -> bytes:
        if count < 0 or self._at + count > len(self._body):
            raise NotBson("it is cut off")
        taken = self._body[self._at : self._at + count]
        self._at += count
        return taken

    def _text(self, data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise NotBson("a text is not UTF-8") from None
