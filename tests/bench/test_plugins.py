from __future__ import annotations

import ast
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import bench
from attacks import Attack
from bench import plugins
from bench.errors import UserError

MODEL = """
class Model:
    bounds = (0.0, 1.0)
    def __init__(self, width, kind): self.width, self.kind = width, kind
    def __call__(self, images): return images.flatten(1)[:, : self.width]
def create(*, width: int = 4, kind: str = "plain"): return Model(width, kind)
"""


def written(folder: Path, text: str, name: str = "mine.py") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_every_file_that_ends_in_create_is_listed_with_a_summary() -> None:
    for kind in ("models", "attacks", "datasets", "tracks"):
        found = plugins.plugins(kind)
        assert found
        assert all(plugin.summary for plugin in found)
    names = {plugin.name for plugin in plugins.plugins("attacks")}
    assert {"boundary", "gaussian_noise", "salt_and_pepper", "foolbox:NAME"} <= names
    assert "perturbation" not in names


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "from bench.plugins import plugins; import sys\n"
        "[plugins(k) for k in ('models', 'attacks', 'datasets', 'tracks')]\n"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("boundary", ("boundary", None, {})),
        ("small_cnn:training=pgd", ("small_cnn", None, {"training": "pgd"})),
        ("foolbox:LinfPGD:steps=20,rel_stepsize=0.1",
         ("foolbox", "LinfPGD", {"steps": "20", "rel_stepsize": "0.1"})),
        ("./a-b/mine.py:width=8", ("./a-b/mine.py", None, {"width": "8"})),
    ],
)  # fmt: skip
def test_a_specification_is_read_and_written_back(
    text: str, expected: tuple[str, str | None, dict[str, str]]
) -> None:
    spec = plugins.parse(text)
    assert (spec.name, spec.argument, spec.parameters) == expected
    assert plugins.parse(str(spec)) == spec


@pytest.mark.parametrize("text", ["", ":a=1", "boundary:steps=5:tail", "boundary:steps=5,tail"])
def test_a_specification_that_can_not_be_read_says_what_was_wanted(text: str) -> None:
    with pytest.raises(UserError, match="wanted"):
        plugins.parse(text)


def test_a_misspelt_attack_names_the_near_one() -> None:
    with pytest.raises(UserError, match="no attack is called 'bounday'; did you mean boundary"):
        plugins.load_attack("bounday")


def test_a_misspelt_model_names_the_near_one() -> None:
    with pytest.raises(UserError, match="did you mean small_cnn"):
        plugins.load_model("small-cn")


def test_an_unknown_parameter_is_refused_by_name_with_the_near_one() -> None:
    with pytest.raises(UserError, match="no parameter 'step'; did you mean 'steps'"):
        plugins.load_attack("boundary:step=3")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("boundary:steps=many", "steps is 'many'; wanted a whole number"),
        ("boundary:source_step=big", "source_step is 'big'; wanted a number"),
        ("gaussian_noise:norm=l3", "norm is 'l3'; wanted one of l0, l1, l2, linf"),
        ("boundary:steps=-4", "steps=-4"),
        ("foolbox", "needs a name behind it"),
        ("boundary:LinfPGD", "has no '='"),
        ("foolbox:LinfPDG", "did you mean LinfPGD"),
    ],
)
def test_a_parameter_that_can_not_be_used_says_what_was_wanted(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plugins.load_attack(spec)


def test_parameters_are_read_by_their_annotations() -> None:
    attack = plugins.load_attack("boundary:steps=7,source_step=0.25")
    assert isinstance(attack, Attack)
    assert (vars(attack)["steps"], vars(attack)["source_step"]) == (7, 0.25)


def test_a_file_is_a_plug_in_with_parameters(tmp_path: Path) -> None:
    model = plugins.load_model(written(tmp_path, MODEL) + ":width=2", dataset="mnist5k")
    assert model(torch.rand(3, 1, 2, 2)).shape == (3, 2)


def test_two_files_of_one_name_do_not_mix(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = plugins.load_model(written(tmp_path / "a", MODEL))
    second = plugins.load_model(written(tmp_path / "b", MODEL.replace("= 4", "= 3")))
    assert first(torch.rand(1, 1, 2, 2)).shape == (1, 4)
    assert second(torch.rand(1, 1, 2, 2)).shape == (1, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", r"has no function create\(\)"),
        ("def create(: pass", "line 1"),
        ("import nowhere_to_be_found", "can't be imported.*nowhere_to_be_found"),
        ("def create(): return 5", "returned int; wanted a model"),
    ],
)
def test_a_file_that_is_no_plug_in_is_the_users_mistake(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        plugins.load_model(written(tmp_path, text))


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        plugins.load_model(str(tmp_path / "none.py"))
    with pytest.raises(UserError, match=r"name the \.py file in it"):
        plugins.load_attack(f"{tmp_path}/")


def test_every_track_has_limits_baselines_that_load_and_a_board_rule() -> None:
    tracks = plugins.tracks()
    kinds = ("robust-model", "untargeted-attack", "targeted-attack")
    data = ("mnist5k", "fashion-mnist", "tiny-imagenet-avc")
    assert {t.name for t in tracks} == {f"{name}-{kind}" for name in data for kind in kinds}
    for track in tracks:
        assert plugins.load_track(track.name) == track
        assert track.to_json()["threat"]["max_queries"] == 1000
        assert len({baseline.title for baseline in track.baselines}) == len(track.baselines)
        for baseline in track.baseline_attacks:
            if "surrogate" not in baseline.spec:  # those load a model: see the test below
                assert plugins.load_attack(baseline.spec).access == "decision"


def test_the_baselines_that_hold_a_model_load_too() -> None:
    with_models = {
        baseline.spec
        for track in plugins.tracks()
        for baseline in track.baseline_attacks
        if "surrogate" in baseline.spec
    }
    assert with_models
    for spec in with_models:
        assert plugins.load_attack(spec).access == "decision"


def test_a_parameter_that_is_left_out_is_named() -> None:
    with pytest.raises(UserError, match=r"transfer needs attack; wanted transfer:attack=\.\.\."):
        plugins.load_attack("transfer:surrogates=transfer_cnn")


def test_a_file_that_hides_one_of_our_packages_is_named(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text("")
    found = subprocess.run(
        [sys.executable, "-c", "import bench"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode != 0
    assert str(tmp_path / "models.py") in found.stderr
    assert "rename that file" in found.stderr


def test_a_parameter_may_be_a_specification_itself_with_parameters_of_its_own() -> None:
    made = plugins.load_attack(
        "worst_case:attacks=(gaussian_noise:directions=3)+pointwise+(transfer:attack=(apgd:steps=7),"
        "surrogates=(small_cnn:training=pgd)+small_cnn)",
        dataset="mnist5k",
    )
    noise, pointwise, transfer = made.attacks  # type: ignore[attr-defined]
    assert (noise.directions, pointwise.norm, transfer.attack.steps) == (3, "l0", 7)
    image = torch.rand(1, 1, 28, 28)
    first, second = (surrogate(image) for surrogate in transfer.surrogates)
    assert not torch.equal(first, second)


def test_a_norm_that_is_asked_for_reaches_the_inner_attacks_that_have_one() -> None:
    made = plugins.load_attack("worst_case:attacks=pointwise+gaussian_noise", norm="l2")
    assert [part.norm for part in made.attacks] == ["l2", "l2"]  # type: ignore[attr-defined]


def test_numbers_are_given_with_a_plus_between_them() -> None:
    made = plugins.load_attack("apgd:radii=0.1+0.2+0.4")
    assert made.radii == (0.1, 0.2, 0.4)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("worst_case:attacks=(boundary", "parentheses don't pair up"),
        ("worst_case:attacks=boundary)+(pointwise", "parentheses don't pair up"),
        ("worst_case:attacks=boundry", "did you mean boundary"),
        ("worst_case:attacks=(boundary:stepz=3)", "boundary has no parameter 'stepz'"),
        ("transfer:attack=apgd,surrogates=small_cmm", "did you mean small_cnn"),
        ("latent_descent:generator=small_cnn", "without reconstruct"),
    ],
)
def test_a_mistake_in_an_inner_specification_is_named(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plugins.load_attack(text, dataset="mnist5k")


NEIGHBOUR = """
from models.types import References
class Model:
    bounds = (0.0, 1.0)
    def __init__(self, references): self.references = references
    def __call__(self, images): return images.flatten(1)[:, :10]
def create(*, references: References): return Model(references)
"""


def test_labelled_images_that_a_model_asks_for_are_the_training_split_of_what_is_played(
    tmp_path: Path,
) -> None:
    model: Any = plugins.load_model(written(tmp_path, NEIGHBOUR), dataset="digits")
    train = bench.dataset("digits", "train")
    assert torch.equal(model.references.images, train.images)
    assert torch.equal(model.references.labels, train.targets)


def test_another_data_sets_training_split_is_taken_by_its_name(tmp_path: Path) -> None:
    spec = written(tmp_path, NEIGHBOUR) + ":references=digits"
    model: Any = plugins.load_model(spec, dataset="mnist5k")
    assert torch.equal(model.references.images, bench.dataset("digits", "train").images)


def test_the_nearest_neighbour_plays_with_the_data_sets_images() -> None:
    model = plugins.load_model("nearest_neighbour", dataset="digits")
    train = bench.dataset("digits", "train").take(20)
    assert torch.equal(model(train.images).argmax(1), train.targets)


def test_references_of_a_data_set_that_is_not_there_are_the_users_mistake() -> None:
    with pytest.raises(UserError, match="did you mean 'digits'"):
        plugins.load_model("nearest_neighbour:references=digit", dataset="mnist5k")


def test_without_a_data_set_the_references_are_asked_for() -> None:
    with pytest.raises(UserError, match="add references=NAME of a data set"):
        plugins.load_model("nearest_neighbour")


def test_a_listing_shows_what_a_model_of_references_takes() -> None:
    found = {plugin.name: plugin for plugin in plugins.plugins("models")}
    assert found["nearest_neighbour"].parameters == {"references": "References"}
    assert found["abs"].parameters["inference"] == "Literal['full', 'fast', 'public'] = 'full'"


def test_one_thread_at_a_time_parses(monkeypatch: pytest.MonkeyPatch) -> None:
    parse, inside, most = ast.parse, [], [0]

    def watched(source: str | bytes) -> ast.Module:
        inside.append(source)
        most[0] = max(most[0], len(inside))
        time.sleep(0.001)
        inside.pop()
        return parse(source)

    monkeypatch.setattr(ast, "parse", watched)
    with ThreadPoolExecutor(4) as pool:
        listed = list(pool.map(lambda _: plugins.plugins("datasets"), range(4)))
    assert all(each == listed[0] for each in listed)
    assert most[0] == 1
