"""One-shot texture segmentation: find the texture of a patch in a collage (arXiv 1807.02654).

Three steps, as in the paper: both images are embedded by one encoder; the reference's embedding,
pooled to a few cells, is correlated with the scene's; a decoder turns that rough map into a mask,
guided by the scene's own features. The layout follows the paper as its independent readers report
it; what stands for ImageNet's VGG here is an encoder that first learnt to tell the training
textures apart (see docs/zoo.md). Sizes and widths are far below the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import UsageError
from .trained import filled
from .wrappers import Bounds

_FILTER = 5


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Encoder(nn.Module):
    """(N, 1, H, W) to maps at half, quarter and eighth size, and the embedding at half size."""

    def __init__(self, widths: tuple[int, ...], embedding: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        self.stages.append(_block(1, widths[0]))
        for before, width in pairwise(widths):
            self.stages.append(nn.Sequential(_block(before, width), _block(width, width)))
        self.tops = nn.ModuleList(
            _block(deep + shallow, shallow) for shallow, deep in reversed([*pairwise(widths[1:])])
        )
        # Centred, or all textures would share one large direction and agree with each other.
        self.embed = nn.Sequential(
            nn.Conv2d(widths[1], embedding, 1, bias=False), nn.BatchNorm2d(embedding, affine=False)
        )

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        maps: list[Tensor] = []
        features = images * 4 - 2
        for number, stage in enumerate(self.stages):
            features = stage(F.avg_pool2d(features, 2) if number else features)
            maps.append(features)
        del maps[0]
        for top, skip in zip(self.tops, maps[-2::-1], strict=True):
            features = F.interpolate(features, scale_factor=2)
            features = top(torch.cat([features, skip], 1))
        return maps, F.normalize(self.embed(features), dim=1)


def correlate(scene: Tensor, reference: Tensor) -> Tensor:
    """(N, 1, H, W) mean agreement of the reference, pooled to 5 x 5 cells, with each place.

    `scene` (N, E, H, W) and `reference` (N, E, h, w) are embeddings of unit length.
    """
    filters = F.normalize(F.adaptive_avg_pool2d(reference, _FILTER), dim=1) / _FILTER**2
    stacked = scene.flatten(0, 1)[None]
    return F.conv2d(stacked, filters, padding=_FILTER // 2, groups=len(scene)).transpose(0, 1)


class Network(nn.Module):
    """Scenes (N, 1, H, W) and references (N, 1, h, w) in [0, 1] to mask logits (N, 1, H, W).

    H and W are multiples of 8, h and w too.
    """

    def __init__(self, widths: tuple[int, ...] = (12, 24, 40, 56), embedding: int = 24) -> None:
        super().__init__()
        self.encoder = Encoder(widths, embedding)
        self.decoder = nn.ModuleList()
        before = 0
        for width in widths[:0:-1]:
            self.decoder.append(_block(width + before + 2, width))
            before = width
        self.head = nn.Conv2d(before, 1, 1)

    def forward(self, scenes: Tensor, references: Tensor) -> Tensor:
        maps, embedded = self.encoder(scenes)
        _, sought = self.encoder(references)
        mean = F.normalize(sought.mean((2, 3), keepdim=True), dim=1)
        rough = torch.cat(
            [correlate(embedded, sought), (embedded * mean).sum(1, keepdim=True)], dim=1
        )
        features: Tensor | None = None
        for stage, skip in zip(self.decoder, maps[::-1], strict=True):
            parts = [skip, F.adaptive_avg_pool2d(rough, skip.shape[-2:])]
            if features is not None:
                parts.append(F.interpolate(features, scale_factor=2))
            features = stage(torch.cat(parts, 1))
        return F.interpolate(self.head(features), scale_factor=2, mode="bilinear")


def balanced_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """(N,) binary cross-entropy, nats: the mean over the mask plus the mean outside, halved.

    So a small region weighs as much as the rest of its scene.
    """
    wanted = masks.to(logits.dtype)
    pixels = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    inside = (pixels * wanted).sum((1, 2, 3)) / wanted.sum((1, 2, 3)).clamp(min=1)
    outside = (pixels * (1 - wanted)).sum((1, 2, 3)) / (1 - wanted).sum((1, 2, 3)).clamp(min=1)
    return (inside + outside) / 2


TASK_SET = "texture-collages"
SCENE, REFERENCE = 64, 32
BROKEN = 0.5
"""An answer with a smaller IoU is of no use: what an adversary is after."""


@dataclass(frozen=True)
class TextureSegmenter:
    """The network as a `models.tasks.TaskModel`: masks of the texture that a reference shows.

    The mask is a threshold on logits; the attack loss, the balanced cross-entropy of those
    logits, goes around it.
    """

    network: Network

    @property
    def task(self) -> str:
        return "texture segmentation"

    @property
    def measure(self) -> str:
        return "IoU"

    @property
    def higher_is_better(self) -> bool:
        return True

    @property
    def bounds(self) -> Bounds:
        return 0.0, 1.0

    def answer(self, images: Tensor, contexts: Tensor | None) -> dict[str, Tensor]:
        """`mask`, (N, 1, H, W) bool: where the logits are above 0."""
        with torch.no_grad():
            return {"mask": self._logits(images, contexts) > 0}

    def attack_loss(
        self, images: Tensor, contexts: Tensor | None, targets: Mapping[str, Tensor]
    ) -> Tensor:
        """(N,) balanced cross-entropy against `targets["mask"]`."""
        return balanced_loss(self._logits(images, contexts), targets["mask"])

    def quality(self, answers: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """(N,) intersection over union of the masks; 1 where both are empty."""
        found, wanted = answers["mask"].flatten(1), targets["mask"].flatten(1)
        union = (found | wanted).sum(1)
        shared = (found & wanted).sum(1) / union.clamp(min=1)
        return torch.where(union == 0, 1.0, shared)

    def success(self, answers: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """(N,) IoU below `BROKEN`."""
        return self.quality(answers, targets) < BROKEN

    def aggregate(self, qualities: Tensor) -> float:
        """The mean IoU over samples."""
        return float(qualities.double().mean())

    def uninformed(self, images: Tensor, contexts: Tensor | None) -> dict[str, Tensor]:
        """Answers to the reference of the sample before: right only by accident."""
        return self.answer(images, self._given(contexts).roll(1, 0))

    def _given(self, contexts: Tensor | None) -> Tensor:
        if contexts is None:
            raise UsageError("texture_seg needs a reference for each scene, and got none")
        return contexts

    def _logits(self, images: Tensor, contexts: Tensor | None) -> Tensor:
        contexts = self._given(contexts)
        for name, given in (("scenes", images), ("references", contexts)):
            sides = given.shape[-2:]
            if given.ndim != 4 or given.shape[1] != 1 or any(side % 8 for side in sides):
                raise UsageError(
                    f"got {name} of shape {tuple(given.shape)}; wanted (N, 1, H, W), grey, "
                    "with sides that are multiples of 8"
                )
        if len(images) != len(contexts):
            raise UsageError(
                f"got {len(images)} scenes and {len(contexts)} references; wanted one for each"
            )
        logits: Tensor = self.network(images, contexts)
        return logits


def create(
    *,
    dataset: str = TASK_SET,
    training: str = "plain",
    weights: str | None = None,
    tiny: bool = False,
    seed: int = 0,
) -> TextureSegmenter:
    """The trained network, as a task: see `TextureSegmenter`.

    `dataset` and `training` choose the checkpoint ("plain", "plain-seed1", "plain-seed2" are
    shipped); `weights` names a safetensors file with a card instead. `tiny` makes a dwarf;
    without `weights` it has random ones from `seed`, for tests. Raises `UsageError` when weights
    are missing, changed, or another network's.
    """
    network = filled(
        "texture_seg",
        build,
        dataset=dataset,
        training=training,
        weights=weights,
        tiny=tiny,
        seed=seed,
    )
    return TextureSegmenter(network.eval().requires_grad_(False))


def build(*, tiny: bool = False) -> Network:
    """The untrained network, in training mode, as `bench.training` wants it."""
    return Network((4, 8, 8, 8), 8) if tiny else Network()
