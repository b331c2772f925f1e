"""The Square attack: random squares, kept where scores get worse (Andriushchenko, 1912.00049).

What differs from the paper, and why: each image has squares of its own, so its result does not
depend on the batch; a square may touch every border; the schedule of sizes is scaled to the queries
that an image has; without an epsilon each image's smallest radius is sought.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .errors import UsageError
from .types import Access

if TYPE_CHECKING:
    from torch import Tensor

    from .criteria import Criterion
    from .oracle import Oracle
    from .random import ImageRandom

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Where, of 10,000 queries, the share of changed pixels is halved (as in the authors' code)."""

BLOCK = 64
"""Steps whose random numbers are drawn at once for an image."""

TILES = 5
"""Tiles along the shorter side of the L2 start."""


@dataclass(frozen=True, kw_only=True)
class Square:
    """Score-based, untargeted or targeted, within a radius or to the smallest one.

    It makes the margin small; targeted, the cross-entropy of the wanted label.

    Attributes:
        norm: of the radius.
        queries: for each image at most; without an epsilon they are shared between the radii tried.
        p_init: the share of the pixels that the first squares change.
        radii: without an epsilon, the radii to search first, ascending; a ladder when not given.
        bisections: without an epsilon, halvings of the radius after that.
    """

    norm: Literal["linf", "l2"] = "linf"
    queries: int = 5000
    p_init: float = 0.8
    radii: tuple[float, ...] | None = None
    bisections: int = 4

    @property
    def access(self) -> Access:
        return "score"

    def run(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        *,
        epsilon: float | None,
        random: ImageRandom,
    ) -> Tensor:
        """See `attacks.Attack.run`. Without an epsilon each image's smallest radius is sought."""
        import torch

        from .distances import distance
        from .radii import ladder, smallest_radius

        best = images.clone()
        reached = torch.full((len(images),), torch.inf)
        before = model.queries.clone()
        allowed = model.remaining().clamp_max(self.queries)
        radii = self.radii or ladder(self.norm, images.shape[1:], model.bounds)
        tries = torch.ones(len(images), dtype=torch.int64)  # that are left, as far as can be told
        if epsilon is None:
            tries *= math.ceil(math.log2(len(radii) + 1)) + self.bisections

        def attempt(rows: Tensor, radius: Tensor) -> Tensor:
            left = (allowed - (model.queries - before))[rows]
            length = (left // tries[rows].clamp_min(1)).clamp_min(1).minimum(left)
            tries[rows] -= 1
            known = reached[rows].isfinite()
            start = self._start(model, images, rows, radius, random)
            scale = (radius / reached[rows]).clamp_max(1.0).view(-1, 1, 1, 1)
            shrunk = torch.lerp(images[rows], best[rows], scale)
            start = torch.where(known.view(-1, 1, 1, 1), shrunk, start)
            ended, hit = self._search(
                model,
                images,
                criterion,
                rows,
                radius,
                length,
                start,
                random,
            )
            best[rows[hit]] = ended[hit]
            found = torch.where(hit, distance(self.norm, images[rows], best[rows]), torch.inf)
            reached[rows] = torch.minimum(reached[rows], found)
            return found

        if epsilon is not None:
            attempt(torch.arange(len(images)), torch.full((len(images),), epsilon))
        else:
            smallest_radius(model, radii, self.bisections, attempt, images=len(images))
        return best

    def _search(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        rows: Tensor,
        radius: Tensor,
        length: Tensor,
        start: Tensor,
        random: ImageRandom,
    ) -> tuple[Tensor, Tensor]:
        """At most length (n,) queries each: the last points (n, C, H, W), and hits (n,)."""
        import torch

        from .projections import sendable

        shape = images.shape[1:]
        ended = start.clone()
        hit = torch.zeros(len(rows), dtype=torch.bool)
        value = torch.full((len(rows),), torch.inf, dtype=torch.float64)
        drawn = torch.empty(0)
        for k in range(int(length.max()) if len(rows) else 0):
            left = ~hit & (k < length) & (model.remaining()[rows] > 0)
            at = left.nonzero().flatten()
            if len(at) == 0:
                break
            clean, column = images[rows[at]], radius[at].view(-1, 1, 1, 1)
            if k == 0:
                tried = ended[at]
            else:
                if (k - 1) % BLOCK == 0:
                    drawn = torch.empty(len(rows), BLOCK, 5 + shape[0])
                    drawn[at] = random.uniform(rows[at], drawn.shape[1:])
                numbers = drawn[at, (k - 1) % BLOCK]
                sides = self._sides(k - 1, length[at], shape[1], shape[2])
                propose = _linf_square if self.norm == "linf" else _l2_squares
                tried = propose(clean, ended[at], column, sides, numbers).clamp(*model.bounds)
            tried = sendable(model, tried, clean, self.norm, radius[at])
            scores = model.scores(tried, rows[at])
            new = _badness(scores, criterion, rows[at])
            fooled = criterion.holds(scores.argmax(1), rows[at])
            better = fooled | (new < value[at])
            ended[at[better]] = tried[better]
            value[at[better]] = new[better]
            hit[at] = fooled
        return ended, hit

    def _sides(self, step: int, length: Tensor, height: int, width: int) -> Tensor:
        """The side of the square (n,) for images that have so many queries (n,) in all."""
        import torch

        scaled = (step * 10000 / length.double()).floor()
        halvings = torch.bucketize(scaled, torch.tensor(HALVINGS, dtype=torch.float64))
        area = self.p_init * height * width / 2.0**halvings
        side = area.sqrt().round().long()
        if self.norm == "l2":
            side = side.clamp_min(3)
            side += 1 - side % 2
        return side.clamp(1, min(height, width))

    def _start(
        self, model: Oracle, images: Tensor, rows: Tensor, radius: Tensor, random: ImageRandom
    ) -> Tensor:
        """Vertical stripes (Linf) or a grid of bumps (L2), of random signs: (n, C, H, W)."""
        import torch

        n, (channels, height, width) = len(rows), images.shape[1:]
        column = radius.view(-1, 1, 1, 1)
        if self.norm == "linf":
            signs = _signs(random.uniform(rows, (channels, 1, width)))
            return (images[rows] + column * signs).clamp(*model.bounds)
        side = max(min(height, width) // TILES, 1)
        down, across = height // side, width // side
        numbers = random.uniform(rows, (down, across, channels + 1))
        signs = _signs(numbers[..., 1:]).permute(0, 3, 1, 2)  # (n, C, down, across)
        bump = _bump(side)
        turned = (numbers[..., 0] > 0.5).view(n, 1, down, 1, across, 1)
        bumps = torch.where(
            turned, bump.T.view(1, 1, 1, side, 1, side), bump.view(1, 1, 1, side, 1, side)
        )
        tiles = (bumps * signs.unsqueeze(3).unsqueeze(5)).reshape(n, channels, down * side, -1)
        change = torch.zeros(n, channels, height, width)
        top, edge = (height - down * side) // 2, (width - across * side) // 2
        change[:, :, top : top + down * side, edge : edge + across * side] = tiles
        return (images[rows] + _of_length(change, column)).clamp(*model.bounds)


def _badness(scores: Tensor, criterion: Criterion, rows: Tensor) -> Tensor:
    """What is made small (n,) float64."""
    from .losses import cross_entropy, margin

    if criterion.targets is not None:
        return cross_entropy(scores, criterion.targets[rows])
    return margin(scores, criterion.labels[rows]).double()


def _linf_square(
    clean: Tensor, current: Tensor, radius: Tensor, sides: Tensor, numbers: Tensor
) -> Tensor:
    """One square of each image set to a corner of the ball (algorithm 2 of the paper).

    Args:
        clean, current: (n, C, H, W).
        radius: (n, 1, 1, 1).
        sides: (n,) of the squares.
        numbers: (n, 5 + C) uniform in [0, 1).
    """
    import torch

    height, width = clean.shape[2:]
    inside = (
        _span(numbers[:, 0], sides, height).unsqueeze(2)
        & _span(numbers[:, 1], sides, width).unsqueeze(1)
    ).unsqueeze(1)
    signs = _signs(numbers[:, 5:]).view(*clean.shape[:2], 1, 1)
    return torch.where(inside, clean + radius * signs, current)


def _l2_squares(
    clean: Tensor, current: Tensor, radius: Tensor, sides: Tensor, numbers: Tensor
) -> Tensor:
    """Move change from one window of each image to another (algorithm 3); as `_linf_square`."""
    import torch

    tried = torch.empty_like(current)
    for side in sides.unique().tolist():  # one, unless images have different budgets
        at = (sides == side).nonzero().flatten()
        moved = _l2_windows(current[at] - clean[at], radius[at], side, numbers[at])
        tried[at] = clean[at] + _of_length(moved, radius[at])
    return tried


def _l2_windows(change: Tensor, radius: Tensor, side: int, numbers: Tensor) -> Tensor:
    """The changes (n, C, H, W) with a bump added in one window and another window emptied."""
    import torch

    n, channels, height, width = change.shape
    to = _window(numbers[:, 0], numbers[:, 1], side, height, width)
    source = _window(numbers[:, 2], numbers[:, 3], side, height, width)
    every = torch.arange(n).view(n, 1, 1, 1), torch.arange(channels).view(1, channels, 1, 1)
    emptied = change.clone()
    emptied[(*every, *source)] = 0.0
    emptied[(*every, *to)] = 0.0
    kept = emptied.square().sum(dim=(2, 3), keepdim=True)
    total = change.square().sum(dim=(2, 3), keepdim=True)
    unused = (radius.square() - total.sum(1, keepdim=True)).clamp_min(0.0) / channels
    window = change[(*every, *to)]  # (n, C, side, side)
    bump = _bump(side)
    turned = (numbers[:, 4] > 0.5).view(n, 1, 1, 1)
    signs = _signs(numbers[:, 5:]).view(n, channels, 1, 1)
    shape = torch.where(turned, bump.T, bump) * signs + _of_length(window, 1.0, each=True)
    mass = (unused + (total - kept).clamp_min(0.0)).sqrt()
    emptied[(*every, *to)] = _of_length(shape, mass, each=True)
    return emptied


def _window(
    down: Tensor, across: Tensor, side: int, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Indices of rows (n, 1, side, 1) and columns (n, 1, 1, side) of windows at random places."""
    import torch

    offsets = torch.arange(side)
    top = (down * (height - side + 1)).long().view(-1, 1, 1, 1)
    edge = (across * (width - side + 1)).long().view(-1, 1, 1, 1)
    return top + offsets.view(1, 1, side, 1), edge + offsets.view(1, 1, 1, side)


def _span(numbers: Tensor, sides: Tensor, size: int) -> Tensor:
    """Which of `size` places lie in a span of length sides (n,) at a random place: (n, size)."""
    import torch

    first = (numbers * (size - sides + 1)).long().unsqueeze(1)
    places = torch.arange(size).unsqueeze(0)
    return (places >= first) & (places < first + sides.unsqueeze(1))


def _signs(numbers: Tensor) -> Tensor:
    """-1 or 1 from uniform numbers."""
    return (numbers >= 0.5).float() * 2 - 1


def _bump(side: int) -> Tensor:
    """A bump and its negative one above the other, (side, side) of length 1."""
    import torch

    upper = _pyramid(side // 2, side)
    lower = _pyramid(side - side // 2, side)
    both = torch.cat([upper, -lower])
    return both.div_(both.norm().clamp_min(1e-12))


def _pyramid(height: int, width: int) -> Tensor:
    """Nested rectangles around the middle, weighing 1, 1/4, 1/9, ...: (height, width), length 1."""
    import torch

    if height == 0:
        return torch.zeros(0, width)
    rings = max(height // 2, width // 2) + 1
    weights = 1.0 / torch.arange(1, rings + 1).square()
    reached = weights.flip(0).cumsum(0).flip(0)  # the sum of all rectangles from this one outwards
    down = (torch.arange(height) - height // 2).abs().unsqueeze(1)
    across = (torch.arange(width) - width // 2).abs().unsqueeze(0)
    found: Tensor = reached[torch.maximum(down, across)]
    return found.div_(found.norm())


def _of_length(change: Tensor, length: Tensor | float, *, each: bool = False) -> Tensor:
    """Scale changes (n, C, H, W) to an L2 length, that of the image or of each channel."""
    import torch

    over = (2, 3) if each else (1, 2, 3)
    now = torch.linalg.vector_norm(change, dim=over, keepdim=True)
    return change.mul(length / now.clamp_min(1e-12))


def create(
    *,
    norm: Literal["linf", "l2"] = "linf",
    queries: int = 5000,
    p_init: float = 0.8,
    radii: tuple[float, ...] | None = None,
    bisections: int = 4,
) -> Square:
    """Make the attack; see `Square` for the parameters."""
    if norm not in ("linf", "l2"):
        raise UsageError(f"got norm={norm!r}; wanted linf or l2")
    if queries < 1 or bisections < 0:
        raise UsageError(f"got queries={queries}, bisections={bisections}; wanted at least 1 and 0")
    if not 0 < p_init <= 1:
        raise UsageError(f"got p_init={p_init}; wanted a share of the pixels in (0, 1]")
    if radii is not None:
        from .radii import check_radii

        check_radii(radii)
    return Square(norm=norm, queries=queries, p_init=p_init, radii=radii, bisections=bisections)
