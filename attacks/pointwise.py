"""The pointwise attack: reset changed pixels while the image stays adversarial (1805.09190)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .errors import UsageError
from .types import Access, Attack

if TYPE_CHECKING:
    from torch import Tensor

    from .criteria import Criterion
    from .oracle import Oracle
    from .random import ImageRandom

PROBE = 1 / 16
"""The first shrink of a pixel that is asked for, as a share of the bounds' range."""

RESOLUTION = 1 / 255
"""Where the bisection of a pixel's change ends, as a share of the bounds' range."""

RETURNED = 4
"""Pixels that an exchange puts back before it resets again."""


@dataclass(frozen=True, kw_only=True)
class Pointwise:
    """Decision-based; from a start far away, first to the fewest pixels, then to small changes.

    The paper's attack (section 5, appendix) resets one pixel at a time, in a random order, until a
    whole round changes nothing, and then bisects the change of each pixel. What differs here:

    - Pixels are reset in groups that double after a success and are split after a failure
      (generalised binary splitting). Where one half of a group that failed goes through, the other
      half is known to fail and is not asked. A pixel that was necessary is asked again only after a
      later success.
    - An exchange puts a few of the pixels back that were reset and starts again with another order;
      the better set stays. It costs a fraction of a fresh run.
    - A pixel is reset with all of its channels, because L0 counts them so.
    - A bisection follows only where a small shrink went through, and it ends once each pixel has
      been stuck since the last one.

    The set of pixels that is left is minimal in the paper's sense: no single one can be reset.

    Attributes:
        norm: "l0" stops at the fewest pixels; "l2" goes on to shrink their changes.
        restarts: starts tried; the best result counts (10 in the paper's "Pointwise x10").
        exchanges: exchanges after each start.
        start: the attack that finds the starts; salt-and-pepper noise when not given, images of the
            wanted class from the pool for a targeted search.
    """

    norm: Literal["l0", "l2"] = "l0"
    restarts: int = 1
    exchanges: int = 1
    start: Attack | None = None

    @property
    def access(self) -> Access:
        return "decision" if self.start is None else self.start.access

    def run(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        *,
        epsilon: float | None,
        random: ImageRandom,
    ) -> Tensor:
        """See `attacks.Attack.run`. With an epsilon an image is done once it is within it."""
        import torch

        from .distances import distance
        from .salt_and_pepper import SaltAndPepper
        from .starts import find_starts

        start = self.start
        if start is None and criterion.targets is None:
            start = SaltAndPepper(orders=1)
        best = images.clone()
        best_distance = torch.full((len(images),), torch.inf)
        enough = 0.0 if epsilon is None else epsilon
        for _ in range(self.restarts):
            starts, found = find_starts(
                model, images, random, start=start, tries=10, bisection_steps=0
            )
            rows = (found & (best_distance > enough)).nonzero().flatten()
            if len(rows) == 0:
                continue
            least = enough if self.norm == "l0" else 0.0
            ends = starts.clone()
            ends[rows] = _reset(model, images, starts[rows], rows, random, least)
            for _ in range(self.exchanges):
                _exchange(model, images, starts, ends, rows, random, least)
            if self.norm == "l2":
                _shrink(model, images, ends, rows, random, enough)
            measured = distance(self.norm, images[rows], ends[rows])
            nearer = measured < best_distance[rows]
            best[rows[nearer]] = ends[rows[nearer]]
            best_distance[rows[nearer]] = measured[nearer]
        return best


def _exchange(
    model: Oracle,
    images: Tensor,
    starts: Tensor,
    ends: Tensor,
    rows: Tensor,
    random: ImageRandom,
    enough: float,
) -> None:
    """Put a few of the pixels of the start back, reset again, keep what is no worse in ends[rows].

    Starts and ends are (N, C, H, W). The image with pixels put back is asked first, and has to be
    adversarial.
    """
    import torch

    from .distances import distance

    pixels = distance("l0", images[rows], ends[rows])
    rows = rows[(pixels > enough) & (model.remaining()[rows] > 0)]
    plane = images.shape[2] * images.shape[3]
    reset = ((starts != images) & (ends == images)).any(1).flatten(1)[rows]  # (n, H*W)
    drawn = torch.where(reset, random.uniform(rows, (plane,)), 2.0)
    returned = (drawn <= drawn.kthvalue(min(RETURNED, plane), dim=1, keepdim=True).values) & reset
    mask = returned.view(len(rows), 1, *images.shape[2:])
    tried = torch.where(mask, starts[rows], ends[rows])
    hit = model.is_adversarial(tried, rows)
    rows, tried = rows[hit], tried[hit]
    again = _reset(model, images, tried, rows, random, enough)
    # Fewer pixels, or as many and nearer in L2.
    pixels, others = (distance("l0", images[rows], found) for found in (again, ends[rows]))
    lengths, farther = (distance("l2", images[rows], found) for found in (again, ends[rows]))
    better = (pixels < others) | (pixels == others) & (lengths < farther)
    ends[rows[better]] = again[better]


def _reset(
    model: Oracle,
    images: Tensor,
    starts: Tensor,
    rows: Tensor,
    random: ImageRandom,
    enough: float,
) -> Tensor:
    """Reset pixels of starts (n, C, H, W), which belong to rows (n,), in a random order of each.

    The state of an image is a list of its changed pixels, a position in it, and the size of the
    next group. `doubtful` counts the pixels from there on that are known to fail as a whole. An
    image is done when each pixel has been found necessary since its last success, or when no more
    than `enough` are left.
    """
    import torch

    channels, height, width = images.shape[1:]
    plane = height * width
    clean = images.flatten(2)
    current = starts.flatten(2).clone()  # (n, C, H*W)
    changed = (current != clean[rows]).any(1)  # (n, H*W)
    # Changed pixels first, in a random order.
    order = torch.where(changed, random.uniform(rows, (plane,)), 2.0).argsort(dim=1)
    size = changed.sum(1)  # pixels still in the list
    slots = int(size.max()) if len(size) else 0
    order = order[:, :slots]
    position = torch.zeros_like(size)
    since = torch.zeros_like(size)  # pixels found necessary since the last success
    group = (size // 4).clamp_min(1)
    doubtful = torch.zeros_like(size)
    while True:
        going = (since < size) & (size > enough) & (model.remaining()[rows] > 0)
        asked = going.nonzero().flatten()
        if len(asked) == 0:
            break
        # A group ends at the end of the list at the latest.
        take = torch.minimum(group[asked], size[asked] - position[asked])
        which, step = _numbered(take)
        pixel = order[asked[which], position[asked[which]] + step]
        tried = current[asked]
        tried[which, :, pixel] = clean[rows[asked[which]], :, pixel]
        hit = model.is_adversarial(tried.view(-1, channels, height, width), rows[asked])

        won, lost = asked[hit], asked[~hit]
        current[won] = tried[hit]
        # Those reset leave the list: the rest keeps its order.
        order[won] = _without(order[won], position[won], take[hit])
        size[won] -= take[hit]
        since[won] = 0
        # What is left of a group that failed as a whole, when a part of it went through, fails.
        left = (doubtful[won] - take[hit]).clamp_min(0)
        necessary = left == 1
        position[won] += necessary.long()
        since[won] += necessary.long()
        doubtful[won] = torch.where(necessary, 0, left)
        group[won] = torch.where(
            left > 1, (left + 1) // 2, torch.where(necessary, take[hit], 2 * group[won])
        ).clamp_min(1)

        single = take[~hit] == 1
        position[lost] += single.long()
        since[lost] += single.long()
        doubtful[lost] = torch.where(single, 0, take[~hit])
        group[lost] = torch.where(single, 1, (take[~hit] + 1) // 2)
        position = torch.where(position >= size, 0, position)
    return current.view(-1, channels, height, width)


def _numbered(count: Tensor) -> tuple[Tensor, Tensor]:
    """For count (n,) things of n owners: of each, which owner has it, and its number there."""
    import torch

    owner = torch.arange(len(count)).repeat_interleave(count)
    return owner, torch.arange(len(owner)) - (count.cumsum(0) - count)[owner]


def _without(lists: Tensor, position: Tensor, take: Tensor) -> Tensor:
    """Lists (n, slots) less `take` (n,) entries from `position` (n,) on; what follows moves up."""
    import torch

    index = torch.arange(lists.shape[1])
    source = index + take.unsqueeze(1) * (index >= position.unsqueeze(1))
    return lists.gather(1, source.clamp_max(lists.shape[1] - 1))


def _first(hits: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """How many lanes of each image failed before one hit, and where in hits that lies: two (n,).

    `hits` are the lanes of all images, count (n,) for each. Where all of an image's failed, the
    first result equals its count, and the second is the last of them.
    """
    import torch

    image, number = _numbered(count)
    failed = count.scatter_reduce(0, image[hits], number[hits], "amin")
    return failed, count.cumsum(0) - count + torch.minimum(failed, count - 1)


def _shrink(
    model: Oracle,
    images: Tensor,
    ends: Tensor,
    rows: Tensor,
    random: ImageRandom,
    enough: float,
) -> None:
    """Shrink the changes that are left, each by itself; changes ends[rows].

    It goes round and round through the pixels, in a random order. For each a small step towards the
    clean value is asked first, so that a pixel that is stuck costs one query, and the more of
    them have been stuck in a row, the more are asked at once; what is asked beyond the first that
    goes through was in vain. A bisection follows there. An image is done when each pixel has been
    stuck since its last success.
    """
    import torch

    channels, height, width = images.shape[1:]
    plane = height * width
    lower, upper = model.bounds
    probe, resolution = PROBE * (upper - lower), RESOLUTION * (upper - lower)
    clean, current = images.flatten(2)[rows], ends.flatten(2)[rows]  # (n, C, H*W)
    changed = (current != clean).any(1)
    order = torch.where(changed, random.uniform(rows, (plane,)), 2.0).argsort(dim=1)
    size = changed.sum(1)
    order = order[:, : int(size.max()) if len(size) else 0]
    position = torch.zeros_like(size)
    since = torch.zeros_like(size)  # pixels that were stuck since the last success
    # Shares of the pixel's change: high is adversarial, low is not known to be or known not to be.
    low, high = torch.zeros(len(rows)), torch.ones(len(rows))
    while True:
        remaining = model.remaining()[rows]
        going = (since < size) & (remaining > 0)
        if enough > 0:
            going &= torch.linalg.vector_norm((current - clean).flatten(1), dim=1) > enough
        asked = going.nonzero().flatten()
        if len(asked) == 0:
            break
        probing = high[asked] == 1
        most = torch.minimum(size[asked] - since[asked], remaining[asked])
        lanes = torch.where(probing, (1 + since[asked]).minimum(most), 1)
        lane, step = _numbered(lanes)
        row = asked[lane]
        pixel = order[row, (position[row] + step) % size[row]]
        reset = clean[row, :, pixel]  # (lanes, C)
        change = current[row, :, pixel] - reset
        length = change.abs().amax(1)
        share = torch.where(
            probing[lane], 1 - probe / length.clamp_min(probe), (low[row] + high[row]) / 2
        )
        tried = current[row]
        tried[torch.arange(len(lane)), :, pixel] = reset + change * share.unsqueeze(1)
        hits = model.is_adversarial(tried.view(-1, channels, height, width), rows[row])
        failed, at = _first(hits, lanes)
        hit = failed < lanes

        stuck = torch.where(probing, failed, 0)
        position[asked] = (position[asked] + stuck) % size[asked]
        since[asked] += stuck
        high[asked[hit]] = share[at[hit]]
        closed = ~hit & ~probing
        low[asked[closed]] = share[at[closed]]
        settled = (high[asked] < 1) & ((high[asked] - low[asked]) * length[at] < resolution)
        settled |= high[asked] == 0
        over, at = asked[settled], at[settled]
        factor = high[over]
        current[over, :, pixel[at]] = reset[at] + change[at] * factor.unsqueeze(1)
        # One that is reset leaves the list; the others come round again.
        gone = over[factor == 0]
        order[gone] = _without(order[gone], position[gone], torch.ones_like(gone))
        size[gone] -= 1
        since[over] = (factor > 0).long()
        position[over] = (position[over] + since[over]) % size[over].clamp_min(1)
        low[over], high[over] = 0.0, 1.0
    # A bisection that the budget cut short keeps its adversarial end.
    cut = (high < 1).nonzero().flatten()
    pixel = order[cut, position[cut]]
    reset = clean[cut, :, pixel]
    current[cut, :, pixel] = reset + (current[cut, :, pixel] - reset) * high[cut].unsqueeze(1)
    ends[rows] = current.view(-1, channels, height, width)


def create(
    *,
    norm: Literal["l0", "l2"] = "l0",
    restarts: int = 1,
    exchanges: int = 1,
    start: Attack | None = None,
) -> Pointwise:
    """Make the attack; see `Pointwise` for the parameters."""
    if norm not in ("l0", "l2"):
        raise UsageError(f"got norm={norm!r}; pointwise makes l0 or l2 small")
    if restarts < 1 or exchanges < 0:
        raise UsageError(f"got restarts={restarts}, exchanges={exchanges}; wanted at least 1 and 0")
    return Pointwise(norm=norm, restarts=restarts, exchanges=exchanges, start=start)
