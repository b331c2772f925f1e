"""What a track is: data set, threat model, limits and the rule that ranks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from attacks.types import Access, Norm

EntryKind = Literal["model", "untargeted-attack", "targeted-attack"]


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
        in_flight: submissions of an account on a track that are being tried at a time.
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
    in_flight: int = 5


@dataclass(frozen=True)
class Baseline:
    """An entry of ours, that others are played against from the start.

    Attributes:
        spec: what `bench.plugins` loads.
        name: on the board; the specification where none is given.
        slow: a match with it takes minutes, so that a server enters it only when it is asked to.
    """

    spec: str
    name: str = ""
    slow: bool = False

    @property
    def title(self) -> str:
        """Its name on the board."""
        return self.name or self.spec


@dataclass(frozen=True, kw_only=True)
class TrackThreat:
    """The threat model of a track: the fields of `bench.match.ThreatModel`, without torch."""

    norm: Norm = "l2"
    access: Access = "decision"
    targeted: bool = False
    max_queries: int = 1000
    quantised: bool = True


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How facts become scores: what can be changed without playing anything again.

    Attributes:
        number: of the version; 1 is the track's own.
        queries: adversarials count that were known after so many queries for their image; None:
            all that the budget allowed.
        norm: the distance that counts; None: the threat model's. The attacks made that one small,
            whatever is counted.
        exclude: ids of images that count for nobody.
    """

    number: int = 1
    queries: int | None = None
    norm: Norm | None = None
    exclude: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The rule as JSON, without its number."""
        return {"queries": self.queries, "norm": self.norm, "exclude": list(self.exclude)}


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
        scoring: how its facts become scores.
        rank_by: the rule of the score, in words.
        higher_is_better: which way the board is sorted.
        top_opponents: how many of the best entries of the other kind an entry plays, besides all
            baselines.
        baseline_models, baseline_attacks: entries of ours on both sides; the first of each is
            the one that a new entry is tried against.
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
    scoring: Scoring = field(default_factory=Scoring)
    rank_by: str
    higher_is_better: bool
    top_opponents: int = 5
    baseline_models: tuple[Baseline, ...]
    baseline_attacks: tuple[Baseline, ...]
    seed: int = 0
    version: str

    @property
    def challenge(self) -> str:
        """The tracks of one data set together: the name of that data set."""
        return self.dataset

    @property
    def baselines(self) -> tuple[Baseline, ...]:
        """The baselines that are entered on this track itself."""
        return self.baseline_models if self.kind == "model" else self.baseline_attacks

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
