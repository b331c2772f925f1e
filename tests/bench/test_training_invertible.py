"""Training invertible networks: each term of the loss does what it is for; cards; probes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor

import bench
from bench.errors import UserError
from bench.training import train
from bench.training.invertible import Game, fit, inversion, nuisance_classifier
from bench.training.probes import PROBES, accuracy
from bench.training.recipes import InvertibleRecipe, recipes
from models.irevnet import architectures
from models.irevnet.network import InvertibleNetwork
from models.wrappers import seeded


def recipe_of(name: str, **changes: object) -> InvertibleRecipe:
    recipe = cast("InvertibleRecipe", recipes("irevnet")[name])
    return replace(recipe, **changes)  # type: ignore[arg-type]


def cued(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Vectors (n,8) whose class (of two) stands in the coordinates 0 and 5, and in no others."""
    labels = torch.arange(n) % 2
    points = torch.randn(n, 8, generator=generator)
    for place in (0, 5):
        points[:, place] = 0.3 * points[:, place] + 4.0 * labels - 2.0
    return points, labels


def played(name: str, steps: int = 400, **changes: object) -> InvertibleNetwork:
    recipe = recipe_of(name, batch_size=100, noise=0.0, learning_rate=5e-3, **changes)
    network = seeded(0, lambda: architectures.dense(8, steps=4, width=32))
    game = Game(network.train(), recipe, 0)
    for step in range(steps):
        game.step(*cued(recipe.batch_size, game.generator), step, steps)
    return network.eval().requires_grad_(False)


def read(network: InvertibleNetwork) -> tuple[float, float, float]:
    """Accuracy of the network, that of a probe on the nuisance, and nats a dimension."""
    generator = torch.Generator().manual_seed(1)
    (points, labels), (tested, truth) = (cued(1000, generator) for _ in range(2))
    code, volume = network.encode_padded(tested)
    right = float((network.logits(code).argmax(1) == truth).double().mean())
    nuisance = network.encode(points).nuisance
    probed = accuracy("mlp", (nuisance, labels), (code.nuisance, truth), classes=2)
    return right, probed, -float(network.log_likelihood(code, volume).mean()) / 8


def test_cross_entropy_alone_leaves_the_class_in_the_nuisance() -> None:
    right, probed, _ = read(played("ce"))
    assert right > 0.99
    assert probed > 0.99


def test_independence_takes_the_class_out_of_the_nuisance() -> None:
    right, probed, _ = read(played("ice-mle"))
    assert right > 0.99
    assert probed < 0.8


def test_likelihood_finds_the_density() -> None:
    """Entropy: 6 normal coordinates, two of deviation 0.3 that say one bit together."""
    wanted = 6 * 0.5 * math.log(2 * math.pi * math.e)
    wanted += 2 * 0.5 * math.log(2 * math.pi * math.e * 0.3**2) + math.log(2)
    _, _, before = read(played("mle", steps=1))
    right, _, nats = read(played("mle"))
    assert wanted / 8 - 0.05 < nats < wanted / 8 + 0.25 < before
    assert right < 0.99 or right > 0.01  # nothing was asked of the logits
    assert nats < read(played("ce"))[2]


def test_every_term_is_used_only_where_its_weight_says_so() -> None:
    weights = {
        name: (r.cross_entropy > 0, r.likelihood > 0, r.independence > 0)
        for name in recipes("irevnet")
        if (r := recipe_of(name))
    }
    assert weights == {
        "ce": (True, False, False),
        "mle": (False, True, False),
        "ce-mle": (True, True, False),
        "ice": (True, False, True),
        "ice-mle": (True, True, True),
    }
    assert Game(architectures.dense(8), recipe_of("ce-mle"), 0).rival is None


def test_the_rival_cannot_be_beaten_by_the_size_of_the_nuisance() -> None:
    network = architectures.dense(8)
    rival = nuisance_classifier(network, 16)
    nuisance = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(rival(nuisance), rival(1000 * nuisance), atol=1e-2)


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second = played("ice-mle", steps=5), played("ice-mle", steps=5)
    for one, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_padded_network_gets_noise_everywhere_and_learns() -> None:
    data = bench.dataset("mnist5k", "train").take(60)
    network = seeded(0, lambda: architectures.published(steps=1, width=8))
    lines: list[str] = []
    recipe = recipe_of("ce-mle", epochs=4, batch_size=20, noise=0.05)
    losses = fit(network, data, recipe, seed=0, report=lines.append)
    assert losses[-1] < losses[0]
    assert "nats a dimension" in lines[0]
    facts = inversion(network.requires_grad_(False), data, recipe)
    assert facts["largest_error"] < 1e-4
    assert facts["nats_a_dimension"] < 0.5


def test_training_writes_weights_and_a_card_that_says_how_well_it_inverts(tmp_path: Path) -> None:
    path = train(
        "irevnet",
        "mnist5k",
        out=tmp_path / "w.safetensors",
        params={"training": "ce-mle", "epochs": 1, "tiny": True},
    )
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["inversion"]["largest_error"] < 1e-4
    assert card["recipe"]["likelihood"] > 0
    assert 0 < card["clean_accuracy"] <= 1
    with pytest.raises(UserError, match="wanted ce or mle or ce-mle or ice or ice-mle"):
        train("irevnet", "mnist5k", params={"training": "plain"})


@pytest.mark.parametrize("training", ["ce", "ce-mle", "ice-mle"])
def test_the_shipped_networks_are_what_their_cards_say(training: str) -> None:
    import models
    from models.weights import card, find

    stated = card(find("irevnet", "mnist5k", training))
    data = bench.dataset("mnist5k")
    model = models.create("irevnet", training=training)
    with torch.no_grad():
        right = sum(int((model(x).argmax(1) == y).sum()) for _, x, y in data.batches(200))
    assert right / len(data) == pytest.approx(float(str(stated["clean_accuracy"])), abs=0.002)


@pytest.mark.parametrize("probe", PROBES)
def test_probes_read_what_is_there_and_nothing_else(probe: str) -> None:
    generator = torch.Generator().manual_seed(0)
    (codes, labels), (tested, truth) = (cued(600, generator) for _ in range(2))

    def read_from(columns: slice) -> float:
        return accuracy(
            probe,  # type: ignore[arg-type]
            (1000 * codes[:, columns], labels),
            (1000 * tested[:, columns], truth),
            classes=2,
        )

    assert read_from(slice(0, 5)) > 0.97
    assert read_from(slice(1, 5)) < 0.6
