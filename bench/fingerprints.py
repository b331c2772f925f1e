"""What an object is, by content: the same weights, settings and source give the same digest.

A model or an attack is walked from its fields to the bytes of its tensors. Code counts by the bytes
of its files: the whole package for our own, and for a FILE.py the file, every module that it loaded
from its folder, and their global values. What cannot be told by content (a random generator, an
open file, a compiled object of some library) has no fingerprint, and says so.
"""

from __future__ import annotations

import ast
import enum
import functools
import hashlib
import inspect
import struct
import sys
import sysconfig
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath

import numpy as np
import torch

from .plugins import syntax

WHOLE = ("attacks", "models")
"""Packages of ours whose sources count as a whole: their files use each other."""

OURS = (*WHOLE, "bench")

_LIBRARIES = tuple(
    Path(sysconfig.get_path(name)).resolve()
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


class NoFingerprint(Exception):
    """An object that cannot be told by content; the message names it and says why."""


def fingerprint(value: object, name: str) -> str:
    """The digest (hexadecimal) of an object's content.

    Args:
        value: a model, an attack, or anything that they are made of.
        name: what to call it in an error.

    Raises:
        NoFingerprint: something in it cannot be told by content.
    """
    walk = _Walk()
    walk.add(value, name)
    return walk.digest.hexdigest()


@functools.cache
def sources(package: str) -> str:
    """The digest of every .py file of one of our packages."""
    spec = sys.modules[package].__spec__
    folders = (spec.submodule_search_locations or []) if spec else []
    return _digest_of(path for folder in folders for path in Path(folder).rglob("*.py"))


class _Walk:
    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self._met: dict[int, int] = {}
        self._kept: list[object] = []  # so that no id is used twice
        self._code: set[str] = set()

    def add(self, value: object, path: str) -> None:
        """Add a value; `path` is how to get there, for an error."""
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            self._put(type(value).__name__, repr(value))
        elif isinstance(value, torch.dtype | torch.device | torch.Size | PurePath | np.dtype):
            self._put(type(value).__name__, str(value))
        elif isinstance(value, enum.Enum):
            self._put(type(value).__qualname__, value.name)
        elif id(value) in self._met:
            self._put("again", str(self._met[id(value)]))
        else:
            self._met[id(value)] = len(self._met)
            self._kept.append(value)
            self._add_compound(value, path)

    def _add_compound(self, value: object, path: str) -> None:
        if isinstance(value, torch.Tensor):
            self._add_tensor(value, path)
        elif isinstance(value, np.ndarray | np.generic):
            self._add_array(np.asarray(value), path)
        elif isinstance(value, types.ModuleType):
            self._add_module(value.__name__, path)
        elif isinstance(value, type):
            self._add_class(value, path)
        elif isinstance(value, types.FunctionType | types.MethodType | functools.partial):
            self._add_callable(value, path)
        elif isinstance(value, types.BuiltinFunctionType | np.ufunc):
            self._put("builtin", f"{getattr(value, '__module__', '')}.{value.__name__}")
        elif isinstance(value, list | tuple):
            self._put(type(value).__qualname__, str(len(value)))
            for index, item in enumerate(value):
                self.add(item, f"{path}[{index}]")
        elif isinstance(value, set | frozenset):
            self._put("set", ",".join(sorted(fingerprint(item, path) for item in value)))
        elif isinstance(value, Mapping):
            self._put(type(value).__qualname__, str(len(value)))
            for key, item in value.items():
                self.add(key, f"{path}, a key")
                self.add(item, f"{path}[{key!r}]")
        elif type(value).__module__ in ("typing", "types", "__future__"):
            self._put("type", repr(value))
        elif isinstance(value, functools._lru_cache_wrapper):
            self.add(value.__wrapped__, path)
        else:
            self._add_object(value, path)

    def _add_tensor(self, value: torch.Tensor, path: str) -> None:
        try:
            data = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
        except (RuntimeError, NotImplementedError, TypeError) as error:
            raise NoFingerprint(f"{path} is a tensor without plain values ({error})") from error
        self._put("tensor", f"{value.dtype} {tuple(value.shape)}")
        self.digest.update(data.tobytes())

    def _add_array(self, value: np.ndarray[typing.Any, typing.Any], path: str) -> None:
        if value.dtype.hasobject:
            raise NoFingerprint(f"{path} is an array of objects")
        self._put("array", f"{value.dtype.str} {value.shape}")
        self.digest.update(np.ascontiguousarray(value).tobytes())

    def _add_callable(self, value: typing.Any, path: str) -> None:
        if isinstance(value, functools.partial):
            self._put("partial", "")
            for part in (value.func, value.args, value.keywords):
                self.add(part, path)
            return
        if isinstance(value, types.MethodType):
            self.add(value.__self__, path)
            value = value.__func__
        self._add_code(value.__code__)
        self._add_module(value.__module__, path)
        self.add(value.__defaults__, path)
        self.add(value.__kwdefaults__, path)
        for cell in value.__closure__ or ():
            self.add(cell.cell_contents, f"{path}, in what a function closes over")

    def _add_code(self, code: types.CodeType) -> None:
        self._put("code", f"{code.co_qualname} {code.co_names}")
        self.digest.update(code.co_code)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._add_code(constant)
            else:
                self._put("constant", repr(constant))

    def _add_object(self, value: object, path: str) -> None:
        kind = type(value)
        for base in kind.__mro__[:-1]:
            file = getattr(sys.modules.get(base.__module__), "__file__", None)
            if base.__module__ == "builtins" or (file and not file.endswith(".py")):
                raise NoFingerprint(
                    f"{path} is of type {kind.__module__}.{kind.__qualname__}, whose content "
                    "cannot be read"
                )
        self._add_class(kind, path)
        for name, item in _fields(value):
            self._put("field", name)
            self.add(item, f"{path}.{name}")

    def _add_class(self, kind: type, path: str) -> None:
        self._put("class", kind.__qualname__)
        for base in kind.__mro__[:-1]:
            self._add_module(base.__module__, path)

    def _add_module(self, name: str, path: str) -> None:
        """The code behind a name, once."""
        if name in self._code:
            return
        self._code.add(name)
        top = name.partition(".")[0]
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if top in WHOLE:
            if f"{top}, whole" not in self._code:
                self._code.add(f"{top}, whole")
                self._put(top, sources(top))
        elif file is None or module is None:
            self._put("module", name)
        elif top in OURS:
            self._put(name, _digest_of([Path(file)]))
        elif _is_library(Path(file)):
            version = getattr(sys.modules.get(top), "__version__", "")
            self._put(name, f"{version} {_digest_of_library(file)}")
        else:
            self._add_users(module, Path(file).resolve(), path)

    def _add_users(self, module: types.ModuleType | None, file: Path, path: str) -> None:
        """A user's own file, by its bytes and its global values, and what it imports beside it."""
        if f"file {file}" in self._code:
            return
        self._code.add(f"file {file}")
        self._put("file", _digest_of([file]))
        if module is not None:
            self._add_globals(module, path)
        loaded = {
            Path(place): other
            for other in list(sys.modules.values())
            if (place := getattr(other, "__file__", None))
        }
        for beside in _imported_beside(file):
            self._add_users(loaded.get(beside), beside, path)

    def _add_globals(self, module: types.ModuleType, path: str) -> None:
        plain = (types.ModuleType, types.FunctionType, type)
        for name, value in sorted(vars(module).items()):
            if name.startswith("__") or isinstance(value, plain):
                continue
            self._put("global", name)
            self.add(value, f"{path}, the global {name} of {Path(module.__file__ or '').name}")

    def _put(self, kind: str, text: str) -> None:
        for part in (kind, text):
            data = part.encode("utf-8", "surrogatepass")
            self.digest.update(struct.pack("<q", len(data)) + data)


def _fields(value: object) -> Iterator[tuple[str, object]]:
    named = dict(getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and inspect.getattr_static(
                value, name, None
            ):
                named.setdefault(name, getattr(value, name, None))
    yield from sorted(named.items())


def _imported_beside(file: Path) -> list[Path]:
    """Files in the same folder that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(syntax(file.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.name for alias in node.names} | {(node.module or "").partition(".")[0]}
    found: list[Path] = []
    for name in sorted(names - set(OURS) - {""}):
        if (single := file.with_name(f"{name}.py")).is_file():
            found.append(single)
        elif (folder := file.with_name(name)).is_dir():
            found += sorted(folder.rglob("*.py"))
    return found


def _is_library(file: Path) -> bool:
    place = file.resolve()
    return bool({"site-packages", "dist-packages"} & set(place.parts)) or any(
        place.is_relative_to(folder) for folder in _LIBRARIES
    )


@functools.cache
def _digest_of_library(file: str) -> str:
    return _digest_of([Path(file)])


def _digest_of(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
