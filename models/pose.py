"""Pose estimation by score maps and offsets: DeepLabCut's method (arXiv 1804.03142).

A residual network of stride 16, and two transposed convolutions from there to stride 8: a score
map for each joint (where is it, to a cell) and a map of offsets (where in the cell). The paper's
backbone is ResNet-50 with ImageNet weights; this one is far smaller and starts from nothing, with
group norm for batch norm in inference mode. Targets, losses and decoding are those of its code's
2018 engine: disks around joints, cross-entropy, Huber loss on offsets inside the disk.
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

TASK_SET = "generated-mice"
STRIDE = 8
"""Pixels between two cells of a map."""
OFFSET_SD = 7.2801
"""Pixels: offsets are given in it."""
OFFSET_WEIGHT = 0.05
"""Of the offsets' loss."""
RADIUS = 9.0
"""Pixels around a joint whose cells are taught that it is there."""
CUTOFF = 0.6
"""Joints with less likelihood are left out where only confident ones count."""


class Residual(nn.Module):
    """Two convolutions of 3x3 with group norm around a shortcut; the first may halve the size."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.GroupNorm(8, outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(8, outputs),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.GroupNorm(8, outputs)
        )

    def forward(self, features: Tensor) -> Tensor:
        summed: Tensor = self.body(features) + self.shortcut(features)
        return F.relu(summed)


class Network(nn.Module):
    """Frames (N, 3, H, W) in [0, 1] to score logits (N, K, H/8, W/8) and offsets (N, K, 2, ...).

    H and W are multiples of 8. Offsets are in units of `OFFSET_SD` pixels, x before y.
    """

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 128), joints: int = 4) -> None:
        super().__init__()
        self.joints = joints
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 5, 2, 2, bias=False), nn.GroupNorm(8, widths[0]), nn.ReLU()
        )
        self.stages = nn.Sequential(*(Residual(a, b, 2) for a, b in pairwise(widths)))
        self.scores = nn.ConvTranspose2d(widths[-1], joints, 3, 2, 1, 1)
        self.offsets = nn.ConvTranspose2d(widths[-1], 2 * joints, 3, 2, 1, 1)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = frames.shape[-2] // STRIDE, frames.shape[-1] // STRIDE
        features = self.stages(self.stem(4 * frames - 2))
        scores = self.scores(features)[..., :rows, :columns]
        offsets = self.offsets(features)[..., :rows, :columns]
        return scores, offsets.unflatten(1, (self.joints, 2))


def cells(rows: int, columns: int) -> Tensor:
    """(rows, columns, 2): x and y of each cell's centre, in pixels."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([x, y], -1) * float(STRIDE) + STRIDE / 2


def pose_loss(scores: Tensor, offsets: Tensor, joints: Tensor) -> Tensor:
    """(N,) cross-entropy of score logits (N, K, h, w) plus `OFFSET_WEIGHT` times the Huber loss of
    offsets (N, K, 2, h, w), for `joints` (N, K, 2) in pixels; joints that are nan don't count."""
    seen = joints.isfinite().all(-1)
    away = joints.nan_to_num(-1e4)[:, :, None, None] - cells(*scores.shape[-2:])
    near = (away.norm(dim=-1) <= RADIUS) & seen[:, :, None, None]
    counted = seen[:, :, None, None].expand_as(scores).to(scores.dtype)
    entropy = F.binary_cross_entropy_with_logits(scores, near.to(scores.dtype), reduction="none")
    missed = F.huber_loss(offsets.movedim(2, -1), away / OFFSET_SD, reduction="none").mean(-1)
    shares = (entropy * counted).sum((1, 2, 3)) / counted.sum((1, 2, 3)).clamp(min=1)
    inside = (missed * near).sum((1, 2, 3)) / near.sum((1, 2, 3)).clamp(min=1)
    loss: Tensor = shares + OFFSET_WEIGHT * inside
    return loss


def decode(scores: Tensor, offsets: Tensor, *, refined: bool = True) -> dict[str, Tensor]:
    """`joints` (N, K, 2) in pixels and `likelihood` (N, K): the best cell, moved by its offset.

    `refined` false leaves the offset out.
    """
    likelihood, best = scores.sigmoid().flatten(2).max(2)
    centres = cells(*scores.shape[-2:]).flatten(0, 1)[best]
    chosen = offsets.flatten(3).gather(3, best[:, :, None, None].expand(-1, -1, 2, 1))[..., 0]
    joints = centres + OFFSET_SD * chosen if refined else centres
    return {"joints": joints, "likelihood": likelihood}


def distances(answers: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    """(N, K) pixels between found and labelled joints; nan where there is no label."""
    found: Tensor = (answers["joints"] - targets["joints"]).norm(dim=-1)
    return found


def confident_error(
    answers: Mapping[str, Tensor], targets: Mapping[str, Tensor], cutoff: float = CUTOFF
) -> tuple[float, float]:
    """Mean distance in pixels of the joints with at least that likelihood, and their share.

    Nan where none has.
    """
    away = distances(answers, targets)
    labelled = away.isfinite()
    kept = labelled & (answers["likelihood"] >= cutoff)
    return float(away[kept].mean()), float(kept.sum() / labelled.sum())


@dataclass(frozen=True)
class PoseEstimator:
    """The network as a `models.tasks.TaskModel`: joints in pixels, with a likelihood for each.

    Quality is the mean distance to the labelled joints, which DeepLabCut calls RMSE; the lower the
    better. The attack loss is the training's, which goes around the choice of the best cell.
    """

    network: Network

    @property
    def task(self) -> str:
        return "pose estimation"

    @property
    def measure(self) -> str:
        return "mean px error"

    @property
    def higher_is_better(self) -> bool:
        return False

    @property
    def bounds(self) -> Bounds:
        return 0.0, 1.0

    def answer(self, images: Tensor, contexts: Tensor | None) -> dict[str, Tensor]:
        """`joints` (N, K, 2), x and y in pixels; `likelihood` (N, K) in [0, 1]."""
        with torch.no_grad():
            return decode(*self._maps(images, contexts))

    def attack_loss(
        self, images: Tensor, contexts: Tensor | None, targets: Mapping[str, Tensor]
    ) -> Tensor:
        """(N,) `pose_loss` against `targets["joints"]`; away from `targets["goal"]`, where a joint
        is to be moved to a chosen place, if there is one (nan: it doesn't matter)."""
        maps = self._maps(images, contexts)
        goal = targets.get("goal")
        return pose_loss(*maps, targets["joints"]) if goal is None else -pose_loss(*maps, goal)

    def quality(self, answers: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """(N,) mean distance over labelled joints, in pixels; 0 where none is labelled."""
        return distances(answers, targets).nanmean(1).nan_to_num(0.0)

    def success(self, answers: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """(N,) whether a labelled joint is missed by more than `targets["tolerance"]` (N,) px."""
        return (distances(answers, targets) > targets["tolerance"][:, None]).any(1)

    def aggregate(self, qualities: Tensor) -> float:
        """The mean over samples."""
        return float(qualities.double().mean())

    def uninformed(self, images: Tensor, contexts: Tensor | None) -> dict[str, Tensor]:
        """The joints of the sample before."""
        return {key: value.roll(1, 0) for key, value in self.answer(images, contexts).items()}

    def _maps(self, images: Tensor, contexts: Tensor | None) -> tuple[Tensor, Tensor]:
        if contexts is not None:
            raise UsageError("pose takes frames alone; got contexts with them")
        if images.ndim != 4 or images.shape[1] != 3 or any(s % 8 for s in images.shape[-2:]):
            raise UsageError(
                f"got frames of shape {tuple(images.shape)}; wanted (N, 3, H, W), RGB, with sides "
                "that are multiples of 8"
            )
        maps: tuple[Tensor, Tensor] = self.network(images)
        return maps


def create(
    *,
    dataset: str = TASK_SET,
    training: str = "plain",
    weights: str | None = None,
    tiny: bool = False,
    seed: int = 0,
) -> PoseEstimator:
    """The trained network, as a task: see `PoseEstimator`.

    `dataset` and `training` choose the checkpoint ("plain" on `generated-mice` is shipped);
    `weights` names a safetensors file with a card instead. `tiny` makes a dwarf; without `weights`
    it has random ones from `seed`, for tests. Raises `UsageError` when weights are missing,
    changed, or another network's.
    """
    network = filled(
        "pose", build, dataset=dataset, training=training, weights=weights, tiny=tiny, seed=seed
    )
    return PoseEstimator(network.eval().requires_grad_(False))


def build(*, tiny: bool = False) -> Network:
    """The untrained network, in training mode, as `bench.training` wants it."""
    return Network((8, 8, 8, 8)) if tiny else Network()
