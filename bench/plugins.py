"""Plug-ins by file name: a file that ends in `create` is a model, an attack and so on.

Listing reads the files with `ast` and imports nothing, so that it stays fast; loading imports one.
A specification is NAME, FILE.py or foolbox:NAME, each with parameters behind it if need be:
`small_cnn:training=pgd`, `./mine.py:width=8`, `foolbox:LinfPGD:steps=20,rel_stepsize=0.1`.
A parameter may be a specification itself, in parentheses where it has parameters of its own, and
"+" stands between several: `worst_case:attacks=boundary+(pointwise:norm=l2)`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
import threading
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import UserError

if TYPE_CHECKING:
    from attacks import Attack, Model
    from models.tasks import TaskModel
    from models.types import References

    from .distortions.types import Distortion
    from .papers.types import Paper
    from .tracks.types import Track

Kind = Literal["models", "attacks", "datasets", "distortions", "tracks", "papers"]

_PACKAGES: dict[Kind, str] = {
    "models": "models",
    "attacks": "attacks",
    "datasets": "bench.datasets",
    "distortions": "bench.distortions",
    "tracks": "bench.tracks",
    "papers": "bench.papers",
}


DASHED: tuple[Kind, ...] = ("datasets", "distortions", "tracks")
"""Kinds whose names are typed with dashes: uniform_noise.py is uniform-noise."""

FILES: tuple[Kind, ...] = ("models", "attacks", "distortions")
"""Kinds of which a file of the user's can be one."""

PAPER = "arxiv_"
"""What the file of a paper begins with: arxiv_1805_09190.py is the paper 1805.09190."""


@dataclass(frozen=True)
class Plugin:
    """What a listing shows of a plug-in.

    Attributes:
        name: as typed on the command line.
        summary: the first line of the file's docstring.
        parameters: {name: its annotation and default as written}.
    """

    name: str
    summary: str
    parameters: dict[str, str]


@dataclass(frozen=True)
class Spec:
    """A parsed specification: what to load, and with which parameters (as text)."""

    name: str
    argument: str | None
    parameters: dict[str, str]

    def __str__(self) -> str:
        head = self.name if self.argument is None else f"{self.name}:{self.argument}"
        tail = ",".join(f"{key}={value}" for key, value in sorted(self.parameters.items()))
        return f"{head}:{tail}" if tail else head


def plugins(kind: Kind) -> list[Plugin]:
    """The plug-ins of a kind, sorted by name. Nothing is imported."""
    paths = sorted(_folder(kind).iterdir())
    return [found for path in paths if (found := _plugin(kind, path)) is not None]


def _plugin(kind: Kind, path: Path) -> Plugin | None:
    """The plug-in that a file or folder holds, or None."""
    source = path / "__init__.py" if path.is_dir() else path
    if path.name.startswith("_") or source.suffix != ".py" or not source.is_file():
        return None
    tree = syntax(source.read_text(encoding="utf-8"))
    create = next(
        (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "create"), None
    )
    if create is None:
        return None
    summary = (ast.get_docstring(tree) or "").strip().partition("\n")[0]
    name = path.stem.replace("_", "-") if kind in DASHED else path.stem
    if kind == "papers":
        name = path.stem.removeprefix(PAPER).replace("_", ".")
    name = f"{name}:NAME" if create.args.posonlyargs else name
    return Plugin(name, summary, _written_parameters(create))


_one_parser = threading.Lock()


def syntax(source: str | bytes) -> ast.Module:
    """The syntax tree of a Python file.

    One thread at a time: some releases of CPython (3.11.7, where it was met) count the depth of a
    tree for all threads together, and raise SystemError when two are made at once.
    """
    with _one_parser:
        return ast.parse(source)


def parse(text: str, extra: Mapping[str, str] | None = None) -> Spec:
    """Split NAME[:ARGUMENT][:key=value,...]; `extra` parameters are added, and win.

    Raises:
        UserError: an empty name, or a parameter without "=".
    """
    head, *segments = _split(text, ":")
    if len(head) == 1 and segments and segments[0][:1] in "\\/":  # a drive letter
        head = f"{head}:{segments.pop(0)}"
    argument: str | None = None
    parameters: dict[str, str] = {}
    for segment in segments:
        if "=" not in segment:
            if argument is not None or parameters:
                raise UserError(
                    f"can't read {text!r}: {segment!r} has no '='; wanted NAME:key=value,key=value"
                )
            argument = segment
            continue
        for pair in _split(segment, ","):
            key, equals, value = pair.partition("=")
            if not equals or not key:
                raise UserError(f"can't read the parameter {pair!r} of {text!r}; wanted key=value")
            parameters[key.strip().replace("-", "_")] = value.strip()
    if not head:
        raise UserError(f"can't read {text!r}: no name; wanted NAME, FILE.py or foolbox:NAME")
    return Spec(head, argument, {**parameters, **(extra or {})})


def _split(text: str, separator: str) -> list[str]:
    """Split at a separator that stands in no parentheses.

    Raises:
        UserError: a parenthesis that is not closed, or closed and not opened.
    """
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    if depth != 0:
        raise UserError(f"can't read {text!r}: its parentheses don't pair up")
    return parts


def _bare(text: str) -> str:
    """The text without the pair of parentheses around it."""
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text


def load_model(spec: str | Spec, **parameters: Any) -> Model:
    """Load a model by specification.

    Args:
        spec: a name in `models/`, or FILE.py whose `create` returns a model: an `attacks.Model`,
            a torch module with images in [0, 1], or an object with `predict(uint8 NHWC) -> labels`.
        **parameters: further ones, given only where the plug-in has them (such as dataset).

    Raises:
        UserError: unknown name (with the near ones), unknown or unreadable parameter, or something
            that is not a model.
    """
    from .adapters import as_model

    made, parsed = _load("models", spec, parameters)
    if is_task(made):
        raise UserError(f"{parsed} is no classifier; `tiltyard task` attacks and distorts it")
    return as_model(made, str(parsed))


def load_task(spec: str | Spec, **parameters: Any) -> TaskModel:
    """Load a model of a task by specification, as `load_model`.

    Raises:
        UserError: as `load_model`, or it is a classifier.
    """
    made, parsed = _load("models", spec, parameters)
    if not is_task(made):
        raise UserError(
            f"{parsed} is a classifier, not a models.tasks.TaskModel; `tiltyard play` takes it"
        )
    task: TaskModel = made
    return task


def is_task(made: object) -> bool:
    """Whether what a model's `create` made is a `models.tasks.TaskModel`."""
    return all(callable(getattr(made, name, None)) for name in ("answer", "attack_loss", "quality"))


def load_attack(spec: str | Spec, **parameters: Any) -> Attack:
    """Load an attack by specification: a name in `attacks/`, foolbox:NAME, or FILE.py.

    The file's `create` returns an `attacks.Attack`, a Foolbox attack, or an object with
    `attack_image(predict, image, label, rng)` as participants write it.

    Raises:
        UserError: as `load_model`.
    """
    from .adapters import as_attack

    made, parsed = _load("attacks", spec, parameters)
    return as_attack(made, str(parsed))


def load_distortion(spec: str | Spec) -> Distortion:
    """Load a distortion by specification: a name in `bench/distortions/`, or FILE.py.

    Raises:
        UserError: as `load_model`, or it has no name, no levels, or can't be called.
    """
    made, parsed = _load("distortions", spec, {})
    lacking = [name for name in ("name", "title", "unit", "levels") if not hasattr(made, name)]
    if lacking or not callable(made):
        what = f"has no {' and no '.join(lacking)}" if lacking else "can't be called"
        raise UserError(
            f"{parsed}: what its create() makes {what}; wanted a bench.distortions.Distortion"
        )
    distortion: Distortion = made
    return distortion


def load_track(name: str) -> Track:
    """Load a track by name.

    Raises:
        UserError: unknown name, with the near ones.
    """
    track: Track = _load("tracks", name, {})[0]
    return track


def load_paper(name: str) -> Paper:
    """Load what reproduces a paper, by its arXiv id such as 1805.09190 (with or without arXiv:).

    Raises:
        UserError: unknown id, with the near ones.
    """
    paper: Paper = _load("papers", Spec(name.lower().removeprefix("arxiv:"), None, {}), {})[0]
    return paper


def tracks() -> list[Track]:
    """Every track, by name."""
    return [load_track(plugin.name) for plugin in plugins("tracks")]


def unknown_name(kind: Kind, name: str) -> UserError:
    """The error for a name that no plug-in of the kind has, with the near ones."""
    singular = kind.removesuffix("s").replace("dataset", "data set")
    names = [plugin.name for plugin in plugins(kind)]
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(names)}"
    files = ", or give a FILE.py" if kind in FILES else ""
    return UserError(f"no {singular} is called {name!r}; {hint}{files}")


def _folder(kind: Kind) -> Path:
    home = Path(__file__).resolve().parent.parent
    return home.joinpath(*_PACKAGES[kind].split("."))


def _load(kind: Kind, spec: str | Spec, defaults: Mapping[str, Any]) -> tuple[Any, Spec]:
    parsed = parse(spec) if isinstance(spec, str) else spec
    create = _create_of(kind, parsed)
    signature = inspect.signature(create)
    takes_argument = any(p.kind is p.POSITIONAL_ONLY for p in signature.parameters.values())
    if takes_argument and parsed.argument is None:
        raise UserError(f"{parsed.name} needs a name behind it, such as {parsed.name}:LinfPGD")
    if parsed.argument is not None and not takes_argument:
        raise UserError(
            f"can't read {str(parsed)!r}: {parsed.argument!r} has no '='; wanted "
            f"{parsed.name}:key=value"
        )
    arguments = () if parsed.argument is None else (parsed.argument,)
    values = _values(parsed, create, signature, defaults)
    for key, value in defaults.items():
        if key in signature.parameters:
            values.setdefault(key, value)
    missing = [
        p.name
        for p in signature.parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.default is p.empty and p.name not in values
    ]
    if missing:
        lacking = " and ".join(missing)
        wanted = ",".join(f"{name}=..." for name in missing)
        raise UserError(f"{parsed.name} needs {lacking}; wanted {parsed.name}:{wanted}")
    usage_errors = _usage_errors()
    try:
        return create(*arguments, **values), parsed
    except usage_errors as error:
        text = str(error)
        raise UserError(text if text.startswith(parsed.name) else f"{parsed}: {text}") from error


def _training_split(dataset: str) -> References:
    from models.types import References

    from .datasets import dataset as load

    data = load(dataset, "train")
    return References(data.images, data.targets)


def _usage_errors() -> tuple[type[Exception], ...]:
    from attacks.errors import UsageError as AttackUsageError
    from models.errors import UsageError as ModelUsageError

    return (AttackUsageError, ModelUsageError)


def _create_of(kind: Kind, spec: Spec) -> Callable[..., Any]:
    if spec.name.endswith(".py") or "/" in spec.name:
        return _create_in_file(Path(spec.name))
    stem = spec.name.replace("-", "_")
    if kind == "papers":
        stem = PAPER + spec.name.replace(".", "_")
    folder = _folder(kind)
    if not any(_plugin(kind, folder / name) for name in (f"{stem}.py", stem)):
        raise unknown_name(kind, spec.name)
    create: Callable[..., Any] = importlib.import_module(f"{_PACKAGES[kind]}.{stem}").create
    return create


def _create_in_file(path: Path) -> Callable[..., Any]:
    if not path.is_file():
        hint = "; name the .py file in it" if path.is_dir() else ""
        raise UserError(f"there is no file {path}{hint}")
    name = f"tiltyard_plugin_{path.stem}_{abs(hash(path.resolve())):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} can't be read as Python; wanted a .py file that ends in create()")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise UserError(f"{path} can't be imported: {error}") from error
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}") from error
    finally:
        sys.path.remove(folder)
    create = getattr(module, "create", None)
    if not callable(create):
        raise UserError(f"{path} has no function create(); a plug-in ends in one")
    made: Callable[..., Any] = create
    return made


def _values(
    spec: Spec,
    create: Callable[..., Any],
    signature: inspect.Signature,
    defaults: Mapping[str, Any],
) -> dict[str, Any]:
    """The specification's parameters, read by the annotations of `create`.

    References that it doesn't name are the training split of the data set that is played.
    """
    from models.types import References

    known = [p for p in signature.parameters.values() if p.kind is not p.POSITIONAL_ONLY]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in known)
    names = [p.name for p in known if p.kind is not p.VAR_KEYWORD]
    hints = typing.get_type_hints(create)
    values: dict[str, Any] = {}
    for key, text in spec.parameters.items():
        if key in names:
            values[key] = _read(spec, key, text, hints.get(key, str), defaults)
        elif open_ended:
            values[key] = _guess(text)
        else:
            near = get_close_matches(key, names, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UserError(
                f"{spec.name} has no parameter {key!r}; {hint}it has: {', '.join(names) or 'none'}"
            )
    for key in [key for key, hint in hints.items() if hint is References and key not in values]:
        if "dataset" in defaults:
            values[key] = _training_split(str(defaults["dataset"]))
        elif signature.parameters[key].default is inspect.Parameter.empty:
            raise UserError(f"{spec.name} needs labelled images; add {key}=NAME of a data set")
    return values


def _read(spec: Spec, key: str, text: str, wanted: Any, defaults: Mapping[str, Any]) -> Any:
    from attacks.types import Attack, GenerativeModel, Model
    from models.types import References

    origin, options = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted in (Model, GenerativeModel):
        return load_model(_bare(text), **defaults)
    if wanted is Attack:
        return load_attack(_bare(text), **defaults)
    if wanted is References:
        return _training_split(_bare(text))
    if origin is tuple:
        parts = _split(text, "+")
        return tuple(_read(spec, key, part.strip(), options[0], defaults) for part in parts)
    if origin in (typing.Union, types.UnionType):
        if type(None) in options and text.lower() == "none":
            return None
        for option in options:
            if option is not type(None):
                return _read(spec, key, text, option, defaults)
    if origin is Literal:
        for option in options:
            if text == str(option):
                return option
        choices = ", ".join(map(str, options))
        raise UserError(f"{spec.name}: {key} is {text!r}; wanted one of {choices}")
    if wanted is bool:
        if text.lower() in ("true", "yes", "1"):
            return True
        if text.lower() in ("false", "no", "0"):
            return False
        raise UserError(f"{spec.name}: {key} is {text!r}; wanted true or false")
    if wanted in (int, float):
        try:
            return wanted(text)
        except ValueError:
            kind = "a whole number" if wanted is int else "a number"
            raise UserError(f"{spec.name}: {key} is {text!r}; wanted {kind}") from None
    return text


def _guess(text: str) -> Any:
    """A value for a parameter without annotation (Foolbox's): a Python literal, or the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _written_parameters(create: ast.FunctionDef) -> dict[str, str]:
    shown = {}
    for argument, default in zip(create.args.kwonlyargs, create.args.kw_defaults, strict=True):
        annotation = ast.unparse(argument.annotation) if argument.annotation else "str"
        shown[argument.arg] = (
            f"{annotation} = {ast.unparse(default)}" if default is not None else annotation
        )
    return shown
