"""The same content has the same fingerprint, and whatever decides an answer changes it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import attacks
import models
from bench import fingerprints
from bench.fingerprints import NoFingerprint, fingerprint
from bench.plugins import load_attack, load_model
from models import small_cnn

FILE = '''"""A model of one's own."""
import numpy as np
import beside

LIMIT = 60

class Bright:
    def __init__(self, width):
        self.width = width

    def predict(self, images):
        from later import shift
        return (images.mean(axis=(1, 2, 3)) > LIMIT + beside.more() + shift).astype(np.int64)

def create(*, width: int = 3):
    return Bright(width)
'''


def of(value: object) -> str:
    return fingerprint(value, "it")


def test_the_same_model_loaded_twice_is_the_same_and_other_weights_are_not() -> None:
    plain = of(load_model("small_cnn"))
    assert plain == of(load_model("small_cnn"))
    assert plain != of(load_model("small_cnn:training=pgd"))


def test_one_bit_of_one_weight_tells() -> None:
    model = small_cnn.create(tiny=True)
    before = of(model)
    weight: torch.Tensor = next(model.module.parameters())
    with torch.no_grad():
        weight.view(-1)[3] = torch.nextafter(weight.view(-1)[3], torch.tensor(9.0))
    assert of(model) != before


def test_what_is_not_in_the_state_dict_tells_too() -> None:
    normalise = models.wrappers.Normalise
    assert of(normalise((0.1,), (1.0,))) != of(normalise((0.2,), (1.0,)))
    assert of(torch.nn.LeakyReLU(0.1)) != of(torch.nn.LeakyReLU(0.2))
    assert of(torch.nn.Dropout().eval()) != of(torch.nn.Dropout().train())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("boundary", {}), ("boundary", {"steps": 5})),
        (("foolbox:LinfPGD", {}), ("foolbox:LinfPGD", {"steps": 7})),
        (("foolbox:LinfPGD", {}), ("foolbox:LinfBasicIterativeAttack", {})),
        (("gaussian_noise", {}), ("salt_and_pepper", {"norm": "l2"})),
    ],
)
def test_an_attacks_name_and_parameters_tell(one: Any, other: Any) -> None:
    first, again, second = (
        of(attacks.create(name, **parameters)) for name, parameters in (one, one, other)
    )
    assert first == again
    assert first != second


def test_a_fingerprint_is_the_same_in_another_process() -> None:
    code = (
        "from bench.plugins import load_attack, load_model\n"
        "from bench.fingerprints import fingerprint\n"
        "for value in load_model('small_cnn'), load_attack('foolbox:L2PGD'):\n"
        "    print(fingerprint(value, ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    expected = (load_model("small_cnn"), load_attack("foolbox:L2PGD"))
    assert done == [fingerprint(value, "") for value in expected]


def load(folder: Path, width: int = 3) -> Any:
    for name in ("beside", "later"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return load_model(f"{folder / 'mine.py'}:width={width}")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "beside.py").write_text("def more():\n    return 0\n")
    (tmp_path / "later.py").write_text("shift = 0\n")
    (tmp_path / "unrelated.py").write_text("a = 1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("mine.py", "LIMIT = 60", "LIMIT = 61"),
        ("mine.py", "> LIMIT", ">= LIMIT"),
        ("beside.py", "return 0", "return 1"),
        ("later.py", "shift = 0", "shift = 1"),
    ],
)
def test_a_file_and_what_it_imports_beside_it_tell_by_their_bytes(
    mine: Path, name: str, old: str, new: str
) -> None:
    before = of(load(mine))
    assert before == of(load(mine))
    assert before != of(load(mine, width=4))
    text = (mine / name).read_text()
    assert old in text
    (mine / name).write_text(text.replace(old, new))
    assert of(load(mine)) != before


def test_a_file_that_is_not_imported_does_not_tell(mine: Path) -> None:
    before = of(load(mine))
    (mine / "unrelated.py").write_text("a = 2\n")
    assert of(load(mine)) == before


def test_what_a_file_reads_into_a_global_tells(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.zeros(3))
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\nimport numpy as np\n"
        "W = np.load(Path(__file__).with_name('w.npy'))\n"
        "class M:\n    def predict(self, images):\n        return images[:, 0, 0, 0] * 0\n"
        "def create(*, width: int = 3):\n    return M()\n"
    )
    before = of(load(tmp_path))
    np.save(tmp_path / "w.npy", np.ones(3))
    assert of(load(tmp_path)) != before


def test_our_own_sources_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    before = of(attacks.create("boundary"))
    monkeypatch.setattr(fingerprints, "sources", lambda package: f"changed {package}")
    assert of(attacks.create("boundary")) != before


def holding(value: object) -> object:
    """A module with one more attribute."""
    holder = torch.nn.Identity()
    holder.inner = value  # type: ignore[assignment]
    return holder


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (np.random.default_rng(0), "it.inner is of type numpy.random._generator.Generator"),
        (torch.Generator(), "it.inner is of type torch"),
        ([1, {"a": iter(())}], "it.inner[1]['a'] is of type builtins.tuple_iterator"),
        (np.array([object()]), "it.inner is an array of objects"),
    ],
)
def test_what_cannot_be_told_by_content_is_named(value: object, named: str) -> None:
    with pytest.raises(NoFingerprint) as caught:
        of(holding(value))
    assert str(caught.value).startswith(named)


def test_shapes_types_and_order_tell_and_a_circle_ends() -> None:
    assert of(torch.zeros(2, 3)) != of(torch.zeros(3, 2))
    assert of(torch.zeros(2)) != of(torch.zeros(2, dtype=torch.float64))
    assert of([1, 2]) != of([2, 1])
    assert of((1, 23)) != of((12, 3))
    assert of({3, 1, 2}) == of({2, 3, 1})
    assert of(1) != of(True)
    assert of(1) != of("1")
    circle: list[object] = [1]
    circle.append(circle)
    assert of(circle) == of(circle)


def test_what_a_function_closes_over_tells(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "class M(torch.nn.Module):\n"
        "    def __init__(self, by):\n"
        "        super().__init__()\n"
        "        self.scale = lambda x: x * by\n"
        "    def forward(self, x):\n        return self.scale(x).flatten(1)\n"
        "def create(*, width: int = 3):\n    return M(width)\n"
    )
    assert of(load(tmp_path)) == of(load(tmp_path))
    assert of(load(tmp_path)) != of(load(tmp_path, width=4))
