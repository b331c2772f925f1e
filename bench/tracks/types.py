"""What a track is: data set, threat model, limits and the rule that ranks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from attacks.types import Access, Norm

EntryKind = Literal["model", "untargeted-attack"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a submission may use. The server, `tiltyard test` and the documents read it from here.

    Attributes:
        start_seconds: from the start of a container until it is ready.
        call_seconds: for a model's answer to one batch.
        run_seconds: for an attack on all samples of a match.
        memory_mib, cores, pids, tmp_mib, open_files, file_mib: of a container.
        image_mib: size of a packed image.
        exec_tmp: whether files in /tmp may be run (JIT compilers need it).
        submissions_per_day: for each account and track.
    """

    start_seconds: float = 100.0
    call_seconds: float = 30.0
    run_seconds: float = 900.0
    memory_mib: int = 2048
    cores: float = 1.0
    pids: int = 256
    tmp_mib: int = 256
    open_files: int = 1024
    file_mib: int = 256
    image_mib: int = 5120
    exec_tmp: bool = False
    submissions_per_day: int = 20


@dataclass(frozen=True, kw_only=True)
class TrackThreat:
    """The threat model of a track: the fields of `bench.match.ThreatModel`, without torch."""

    norm: Norm = "l2"
    access: Access = "decision"
    targeted: bool = False
    max_queries: int = 1000
    quantised: bool = True


@dataclass(frozen=True, kw_only=True)
class Track:
    """A board's rules.

    Attributes:
        name: as in `--track NAME`.
        title: for people.
        kind: what is entered.
        dataset, split, images: the samples are the first `images` of the split.
        image_shape: (H, W, C) of the uint8 images.
        classes: number of labels.
        threat: what an attack may do, and what counts.
        limits: of a submission.
        rank_by: the rule of the score, in words.
        higher_is_better: which way the board is sorted.
        top_opponents: how many of the best entries of the other kind an entry plays, besides all
            baselines.
        baseline_models, baseline_attacks: specifications that `bench.plugins` loads.
        seed: of every match.
        version: of the rules; any change of a score is a new one.
    """

    name: str
    title: str
    kind: EntryKind
    dataset: str
    split: str = "test"
    images: int
    image_shape: tuple[int, int, int]
    classes: int
    threat: TrackThreat = field(default_factory=TrackThreat)
    limits: Limits = field(default_factory=Limits)
    rank_by: str
    higher_is_better: bool
    top_opponents: int = 5
    baseline_models: tuple[str, ...] = ()
    baseline_attacks: tuple[str, ...] = ()
    seed: int = 0
    version: str

    def to_json(self) -> dict[str, Any]:
        """Every rule as JSON."""
        return asdict(self)


MODEL_RULE = (
    "median over samples of the smallest L2 distance over opponents; 0 where the clean image is "
    "misclassified, the worst case where every attack failed"
)
ATTACK_RULE = (
    "for each model the median over samples of the L2 distance (0 for a clean error, the worst "
    "case for a failure), averaged over models"
)
