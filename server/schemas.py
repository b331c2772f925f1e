"""What the API answers and the web pages show: one set of frozen pydantic models for both.

Conventions: times are UTC; distances are L2 (or the track's norm) on values in [0, 1]; a failed
attack's distance is ``None`` (JSON has no infinity); fractions lie in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["model", "untargeted-attack", "targeted-attack"]
Source = Literal["zoo", "image", "package"]
SandboxKind = Literal["trusted", "docker", "process"]
SubmissionState = Literal[
    "uploading", "validating", "accepted", "rejected", "withdrawn", "disqualified"
]
JobState = Literal[
    "blocked",
    "queued",
    "leased",
    "running",
    "succeeded",
    "failed_user",
    "dead",
    "cancelled",
]
JobKind = Literal["validate", "match"]
RowState = Literal["scored", "playing", "failed"]
HistoryState = Literal["scored", "playing", "failed", "gone"]
RoundState = Literal["playing", "published", "dropped"]
T = TypeVar("T")


class View(BaseModel):
    """Base of everything that leaves the server; immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Asked(View):
    """Base of what clients send. Text that no database can hold is refused."""

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:
        for text in _texts(data):
            storable(text)
        return data


def storable(text: str) -> str:
    """The text; raises ValueError where no database can hold it."""
    if "\0" in text or not _encodes(text):
        raise ValueError(f"got the text {text[:40]!r}; wanted Unicode without NUL")
    return text


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from _texts(key)
            yield from _texts(value)
    elif isinstance(data, list):
        for value in data:
            yield from _texts(value)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Interval(View):
    """A 95 % bootstrap interval, in the unit of the value beside it."""

    lower: float
    upper: float

    def overlaps(self, other: Interval) -> bool:
        """Whether some value lies in both."""
        return self.lower <= other.upper and other.lower <= self.upper


class ThreatView(View):
    """What an attack may do: the norm it is judged by, its access and its budget."""

    norm: str
    epsilon: float | None = Field(None, description="None: any distance, made small")
    access: str
    targeted: bool
    max_queries: int | None
    quantised: bool


class LimitsView(View):
    """Limits of a track; the unit is the last word of each name, MiB for sizes."""

    start_seconds: float
    call_seconds: float
    run_seconds: float
    memory_mib: int
    cores: float
    pids: int
    tmp_mib: int
    open_files: int
    file_mib: int
    image_mib: int
    exec_tmp: bool
    submissions_per_day: int
    in_flight: int


class ScoringView(View):
    """How facts become scores on a board."""

    number: int = Field(description="of the version; 1 is the track's own rule")
    queries: int | None = Field(description="only what was known after so many queries counts")
    norm: str | None = Field(description="the distance that counts, where not the threat's")
    exclude: list[str] = Field(description="images that count for nobody")


class ImageContract(View):
    """What an image is on this track: (height, width, channels), always uint8 in 0..255."""

    shape: tuple[int, int, int]
    dtype: Literal["uint8"] = "uint8"
    classes: int


class TrackView(View):
    """One track with its rules as data; the CLI and the documents read the same."""

    name: str
    title: str
    challenge: str
    kind: Kind
    dataset: str
    split: str
    images: int
    threat: ThreatView
    limits: LimitsView
    rank_by: str
    higher_is_better: bool
    version: str
    unit: str = Field(description="unit of the score, such as 'L2 distance'")
    opponents: int = Field(description="how many of the best entries are opponents, + baselines")
    opponent_track: str | None = Field(description="the track whose entries are the opponents")
    image: ImageContract
    seed: int
    rules_version: str = Field(description="names all that decides a match's facts")
    board_version: str = Field(description="the same, and the scoring of the board")
    scoring: ScoringView
    hidden: bool = Field(description="hidden split: images, adversarials and logs never shown")


class EntryRef(View):
    """Enough of a submission to name it and link to it."""

    id: str
    name: str
    owner: str
    kind: Kind
    track: str
    baseline: bool


class MedianSample(View):
    """The sample that decides a score: "why this rank"."""

    image_id: str
    distance: float | None = Field(description="as scored; None where no adversarial was found")
    failed: bool = Field(description="no adversarial: the worst-case distance was scored")
    match_id: str
    opponent: EntryRef


class WorstOpponent(View):
    """The opponent that costs this entry most, by its median distance alone."""

    opponent: EntryRef
    match_id: str
    median_distance: float = Field(description="worst-case distances standing in for failures")
    median_sample: MedianSample


class Met(View):
    """What became of a row's match against one of the opponents that it is scored against."""

    opponent: EntryRef
    match_id: str
    state: Literal["done", "open", "stopped", "failed", "void"] = Field(
        description="stopped: by our fault; failed: by this entry's; void: by the opponent's"
    )
    median_distance: float | None = Field(description="None: not done, or half of it failed")
    isolated: bool


class BoardRow(View):
    """One entry of a board. Rows without a score come last and say why in ``state``/``reason``."""

    rank: int | None = Field(description="ties share one; None without a score")
    entry: EntryRef
    score: float | None
    interval: Interval | None
    separable: bool | None = Field(
        description="False: the interval overlaps that of the next row; None for the last scored"
    )
    clean_accuracy: float | None = Field(description="models only")
    worst_opponent: WorstOpponent | None
    why: MedianSample | None = Field(description="the median sample and the opponent that found it")
    mean_queries: float | None
    failed_samples: int = Field(description="attacked samples without an adversarial")
    matches_done: int
    matches_expected: int
    matches: list[Met] = Field(description="against the opponents that count")
    state: RowState
    reason: str | None = Field(description="why there is no score, in words for everybody")
    isolated: bool = Field(description="False: some result came from the process sandbox")
    accepted_at: datetime
    updated_at: datetime | None

    @property
    def submission_id(self) -> str:
        """The submission behind the row (``entry.id``)."""
        return self.entry.id

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def owner(self) -> str:
        return self.entry.owner

    @property
    def baseline(self) -> bool:
        return self.entry.baseline


class BoardQuery(Asked):
    """What of a board is shown, and in which order. Ranks are those of the whole board."""

    q: str = Field(default="", max_length=100, description="part of an entry's or its owner's name")
    who: Literal["all", "participants", "baselines"] = "all"
    state: Literal["all", "scored", "playing", "failed"] = "all"
    sort: Literal["rank", "entry", "score", "accuracy", "opponent", "queries", "updated"] = "rank"
    order: Literal["asc", "desc"] = Field(default="asc", description="what is missing comes last")
    page: str | None = Field(
        default=None, max_length=1000, description="`next` or `previous` of another answer"
    )
    limit: int | None = Field(
        default=None, ge=1, le=1000, description="rows; all where it is left out"
    )

    @property
    def filtered(self) -> bool:
        """Whether rows are left out for what was asked, besides those of other pages."""
        return (self.q, self.who, self.state) != ("", "all", "all")


class BoardFormat(BoardQuery):
    """The same, and how it is written."""

    format: Literal["json", "csv"] | None = Field(
        default=None, description="as the Accept header says where it is left out"
    )


class BoardView(View):
    """A board: rows by rank. ``version`` changes with anything shown and is the ETag."""

    track: TrackView
    version: str
    rows: list[BoardRow]
    entries: int = Field(description="on the whole board")
    scored: int = Field(description="on the whole board")
    found: int = Field(description="rows that the query matches, shown or on other pages")
    leader: EntryRef | None = Field(description="who has the first rank of the whole board")
    leading: float | None = Field(description="the best score of the whole board")
    next: str | None = Field(description="`page` of the rows after these")
    previous: str | None = Field(description="`page` of the rows before these")
    waiting: int = Field(description="jobs of this track that are queued or running")
    isolated: bool = Field(description="False: some row holds results of the process sandbox")
    updated_at: datetime | None
    last_event_id: int = Field(description="subscribe to events after this one")


class ChallengeView(View):
    """A data set with its tracks, as this server plays it."""

    name: str
    open: bool = Field(description="whether it takes entries")
    tracks: list[str]
    rounds: int
    opened_at: datetime
    closed_at: datetime | None


class RoundView(View):
    """A round. Its boards are everybody's once it is published; then the seed is, too."""

    id: str
    challenge: str
    name: str
    state: RoundState
    images: int
    images_sha256: str = Field(description="of the hidden images: they can't be changed unseen")
    digest: str = Field(description="SHA-256 of entries, images, seed and scoring")
    seed: int | None = Field(description="None until it is published")
    entries: list[EntryRef]
    boards: list[str] = Field(description="tracks whose board of this round may be seen")
    matches: int
    matches_done: int
    matches_failed: int = Field(description="ended by an entry's own fault")
    matches_stopped: int = Field(description="ended by our fault; to be run again")
    created_at: datetime
    published_at: datetime | None


class RoundRequest(Asked):
    """Body of POST /challenges/{c}/rounds."""

    name: str = Field(min_length=1, max_length=80)
    images: int | None = Field(
        None, ge=1, le=1_000_000, description="hidden images; 100 where it is left out"
    )
    best: int | None = Field(
        None, ge=1, le=1_000_000, description="participants of each track; all by default"
    )


class ScoringRequest(Asked):
    """A rule of scores. What is left out is as in the track's own rule."""

    queries: int | None = Field(None, description="count only what was known after so many")
    norm: str | None = Field(None, description="l0, l1, l2 or linf")
    exclude: list[str] = Field([], max_length=10_000, description="ids of images")


class RescoreRequest(Asked):
    """Body of POST /boards/{b}:rescore. Without a digest nothing is changed."""

    rule: ScoringRequest
    note: str = Field("", max_length=500, description="why, for everybody to read")
    digest: str | None = Field(None, description="of the difference that is to be published")


class ScoreChange(View):
    """What a rule does to one entry."""

    entry: EntryRef
    old_score: float | None
    new_score: float | None
    old_rank: int | None
    new_rank: int | None

    @property
    def moved(self) -> bool:
        """Whether its score or its rank is another one."""
        return (self.old_score, self.old_rank) != (self.new_score, self.new_rank)


class RescoreView(View):
    """The difference between two rules on one board, by the new rank."""

    track: str
    current: ScoringView
    proposed: ScoringView
    changes: list[ScoreChange]
    changed: int = Field(description="entries whose score or rank is another")
    digest: str = Field(description="give this back to publish it")
    published: bool


class ScoringVersion(View):
    """A published scoring of a board. Number 1 is the track's own and has no author."""

    scoring: ScoringView
    board_version: str
    note: str
    actor: str | None
    created_at: datetime | None


class HistoryRow(View):
    """What an entry's row became at one moment, and its rank right after it."""

    event: int
    entry: EntryRef
    score: float | None
    rank: int | None
    state: HistoryState
    board_version: str
    at: datetime


class CurvePoint(View):
    """One point of a curve; the meaning of x and y is the curve's."""

    x: float
    y: float


class MatchSummary(View):
    """The figures of one match, from its samples alone."""

    n: int
    clean_accuracy: float
    median_distance: float | None = Field(description="None: more than half of the samples failed")
    interval: Interval | None
    mean_queries: float
    successes: int
    failures: int


class MatchRef(View):
    """A match in a list."""

    id: str
    model: EntryRef
    attack: EntryRef
    dataset: str
    state: JobState
    reason: str | None
    isolated: bool
    median_distance: float | None
    samples: int
    created_at: datetime
    finished_at: datetime | None


class MatchView(View):
    """One match with its curves, all computed from the stored samples."""

    id: str
    model: EntryRef
    attack: EntryRef
    dataset: str
    split: str
    images: int
    seed: int
    rules_version: str
    tracks: list[str] = Field(description="the boards that this match counts for")
    threat: ThreatView
    state: JobState
    reason: str | None
    sandbox: list[SandboxKind] = Field(description="where its entries ran, without repeats")
    isolated: bool
    hidden: bool
    summary: MatchSummary | None
    accuracy_curve: list[CurvePoint] = Field(description="x: distance; y: accuracy left there")
    query_curve: list[CurvePoint] = Field(
        description="x: queries; y: median best distance by then (worst case until found)"
    )
    created_at: datetime
    finished_at: datetime | None
    provenance: dict[str, object]


class SampleView(View):
    """One image of a match, as the referee recorded it."""

    index: int
    image_id: str
    clean_label: int
    predicted: int
    clean_correct: bool
    label_name: str | None
    predicted_name: str | None
    status: str
    success: bool
    distance: float | None
    distances: dict[str, float] | None
    queries: int
    seconds: float
    adversarial_sha256: str | None = Field(description="artefact: .npy uint8 (H, W, C)")
    reason: str | None = Field(description="only for the owner of the attack")
    trace: list[tuple[int, float]] = Field(description="(queries, best distance so far)")


class AttemptView(View):
    """One try at a job, with what the engine said."""

    fence: int
    worker: str
    host: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    exit_code: int | None
    oom: bool
    provenance: dict[str, object]


class JobView(View):
    """A job and why it waits."""

    id: str
    kind: JobKind
    state: JobState
    submission_id: str
    submission_name: str
    match_id: str | None
    attempt: int
    position: int | None = Field(description="1 = next; None when it does not wait")
    waits_for: str | None = Field(description="why it waits, in words")
    reason: str | None
    cancel_requested: bool
    created_at: datetime
    run_after: datetime | None
    deadline: datetime
    started_at: datetime | None
    finished_at: datetime | None


class SubmissionView(View):
    """A submission: state, reason and position in the queue. Reasons are for its owner."""

    id: str
    name: str
    owner: str
    track: str
    kind: Kind
    source: Source
    state: SubmissionState
    reason: str | None
    sha256: str | None
    baseline: bool
    position: int | None
    jobs: list[JobView]
    created_at: datetime
    updated_at: datetime
    accepted_at: datetime | None


class EntryView(View):
    """The page of one entry: provenance, row, and all matches."""

    ref: EntryRef
    state: SubmissionState
    source: Source
    spec: str | None = Field(description="zoo entries: what `tiltyard play` takes")
    sha256: str | None
    rules_version: str
    row: BoardRow | None
    matches: list[MatchRef]
    isolated: bool
    attempts: list[AttemptView] = Field(description="empty unless the viewer owns the entry")
    reason: str | None = Field(description="None unless the viewer owns the entry")
    created_at: datetime
    accepted_at: datetime | None


class QueueView(View):
    """Everything that waits or runs, next first."""

    queued: int
    running: int
    workers: int
    jobs: list[JobView]


class EventView(View):
    """One line of the audit log and of the live feeds."""

    id: int
    kind: str
    track: str | None
    submission_id: str | None
    payload: dict[str, object]
    created_at: datetime


class UploadView(View):
    """A resumable upload: send the bytes from ``offset`` on."""

    id: str
    length: int
    offset: int
    sha256: str | None = Field(description="of the whole, once complete")
    expires_at: datetime


class SubmissionRequest(Asked):
    """Body of POST /submissions."""

    track: str
    name: str = Field(min_length=1, max_length=80)
    upload: str = Field(description="id of a complete upload")


class LogsView(View):
    """What a submission's program printed, attempt after attempt."""

    text: str
    next: int = Field(description="give this as ?after= to read on from here")


class Page(View, Generic[T]):
    """One page of a list; ``next`` is the cursor of the following one."""

    items: list[T]
    next: str | None


class SignUpRequest(Asked):
    """Body of POST /auth/sign-up."""

    name: str = Field(min_length=1, max_length=40)
    password: str = Field(max_length=1000, description="12 to 200 characters")
    invitation: str | None = Field(None, max_length=200, description="its code")


class TokenRequest(Asked):
    """Body of POST /auth/tokens. Name and password, unless a token is sent."""

    name: str | None = Field(None, max_length=40)
    password: str | None = Field(None, max_length=1000)
    scope: Literal["read", "submit", "operate"] = "submit"
    days: float = Field(90.0, gt=0, le=3650, description="how long it is good")
    label: str = Field("", max_length=80, description="what it is for, in your words")


class PasswordRequest(Asked):
    """Body of PUT /auth/password."""

    old: str = Field(max_length=1000)
    new: str = Field(max_length=1000, description="12 to 200 characters")


class TeamRequest(Asked):
    """Body of POST /teams."""

    name: str = Field(min_length=1, max_length=40)


class JoinRequest(Asked):
    """Body of POST /teams:join."""

    invitation: str = Field(max_length=200, description="the code that its captain gave you")


class MemberView(View):
    """A member of a team."""

    id: str
    name: str
    captain: bool


class TeamView(View):
    """A team; on boards it stands like an account, by its name."""

    id: str
    name: str
    members: list[MemberView]


class AccountView(View):
    """An account. ``scope``: what the token that asks may do."""

    id: str
    name: str
    role: str
    team: TeamView | None
    organises: list[str]
    scope: str | None
    disabled: bool
    created_at: datetime


class TokenView(View):
    """A token without its text; ``kind`` "session": of a browser that is signed in."""

    id: str
    label: str
    kind: Literal["api", "session"]
    scope: str
    created_at: datetime
    expires_at: datetime | None


class NewTokenView(TokenView):
    """A token that was just made. ``text`` is shown this once."""

    text: str


class InvitationView(View):
    """An invitation that was just made. ``code`` is shown this once."""

    code: str
    team_id: str | None = Field(description="the team to join; null: to sign up")
    expires_at: datetime


class AuditView(View):
    """What somebody did."""

    id: int
    kind: str
    actor: str
    track: str | None
    submission_id: str | None
    payload: dict[str, Any]
    created_at: datetime


class HealthView(View):
    """What this server is and which safeguards its sandbox has."""

    status: Literal["ok", "degraded"]
    version: str
    database: str
    migration: str | None
    workers: int
    sandbox: dict[str, object]
    warnings: list[str]


class Problem(BaseModel):
    """RFC 9457 problem details; ``detail`` says what was got, what was wanted and the mend."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[dict[str, object]] | None = None
