"""The tables. Times are seconds since 1970 by the database's clock (see engine.db_now).

What makes each one safe to be killed over:

====================  ==========================================================================
``job``               ``key`` unique; state moved only by jobs.py, guarded by ``fence``
``attempt``           one row for each (job, fence)
``sample_result``     insert only, unique by (match, sample, rules version)
``board_row``         upserted by a pure function of sample_result; carries a hash of its inputs
``outbox``            unique (job, kind); drained after commit, in the transaction that acts on it
``quota_ledger``      unique (submission, reason); ``quota_day.used`` always equals its sum
``event``             append only, ids without a gap and in order of commit
``board_history``     append only: a row whenever a score or a state on a board changed
``scoring``           insert only, unique by (track, number): the rules of a board's score
``round``             state moved by rounds.py alone; entries, images and rules never change
====================  ==========================================================================
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    MetaData,
    String,
    UniqueConstraint,
    true,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from ..schemas import (
    HistoryState,
    JobKind,
    JobState,
    Kind,
    RoundState,
    RowState,
    SandboxKind,
    Source,
    SubmissionState,
)
from .engine import db_now
from .ids import new_id


class Base(DeclarativeBase):
    """Common base: constraints get predictable names, so that migrations can drop them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        dict[str, Any]: JSON,
        list[Any]: JSON,
        float: Double(),
    }


class Account(Base):
    """Who acts, or a team. ``system`` owns the baselines; neither it nor a team signs in.

    ``password`` is an argon2 hash; None: no password opens it.
    """

    __tablename__ = "account"
    __table_args__ = (
        CheckConstraint("role IN ('participant', 'operator', 'system', 'team')", name="role"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[Literal["participant", "operator", "system", "team"]] = mapped_column(String)
    password: Mapped[str | None]
    created_at: Mapped[float] = mapped_column(default=db_now())
    disabled_at: Mapped[float | None]


class Membership(Base):
    """An account in its team: it is in one at most, and what it enters then is the team's."""

    __tablename__ = "membership"

    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    captain: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[float] = mapped_column(default=db_now())


class Organiser(Base):
    """An account that organises a challenge."""

    __tablename__ = "organiser"

    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), primary_key=True)
    challenge: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[float] = mapped_column(default=db_now())


class Identity(Base):
    """Whom an OpenID provider vouches for, as an account."""

    __tablename__ = "identity"

    issuer: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    created_at: Mapped[float] = mapped_column(default=db_now())


class Invitation(Base):
    """To sign up, or to join a team; good once. Only its code's SHA-256 is kept."""

    __tablename__ = "invitation"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    digest: Mapped[str] = mapped_column(unique=True)
    team_id: Mapped[str | None] = mapped_column(ForeignKey("account.id"), index=True)
    actor: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=db_now())
    expires_at: Mapped[float]
    used_by: Mapped[str | None] = mapped_column(ForeignKey("account.id"))
    used_at: Mapped[float | None]


class Token(Base):
    """A bearer token, or the session of a browser; only its SHA-256 is kept."""

    __tablename__ = "token"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    digest: Mapped[str] = mapped_column(unique=True)
    scope: Mapped[Literal["read", "submit", "operate"]] = mapped_column(String)
    label: Mapped[str] = mapped_column(default="")
    kind: Mapped[Literal["api", "session"]] = mapped_column(String, default="api")
    created_at: Mapped[float] = mapped_column(default=db_now())
    expires_at: Mapped[float | None]
    revoked_at: Mapped[float | None]


class Upload(Base):
    """A resumable upload. ``received`` bytes are on disk and synced."""

    __tablename__ = "upload"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    length: Mapped[int] = mapped_column(BigInteger)
    received: Mapped[int] = mapped_column(BigInteger, default=0)
    sha256: Mapped[str | None]
    created_at: Mapped[float] = mapped_column(default=db_now())
    expires_at: Mapped[float]


class Submission(Base):
    """An entry, from upload to withdrawal. Zoo models and baselines are submissions too."""

    __tablename__ = "submission"
    __table_args__ = (
        UniqueConstraint("account_id", "idempotency_key"),
        UniqueConstraint("track", "spec"),
        CheckConstraint("kind IN ('model', 'untargeted-attack', 'targeted-attack')", name="kind"),
        CheckConstraint("source IN ('zoo', 'image', 'package')", name="source"),
        CheckConstraint(
            "state IN ('uploading', 'validating', 'accepted', 'rejected', 'withdrawn', "
            "'disqualified')",
            name="state",
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    name: Mapped[str]
    track: Mapped[str] = mapped_column(index=True)
    kind: Mapped[Kind] = mapped_column(String)
    source: Mapped[Source] = mapped_column(String)
    spec: Mapped[str | None]
    sha256: Mapped[str | None]
    state: Mapped[SubmissionState] = mapped_column(String)
    reason: Mapped[str | None]
    idempotency_key: Mapped[str | None]
    idempotency_hash: Mapped[str | None]
    submitted_by: Mapped[str | None] = mapped_column(ForeignKey("account.id"))
    created_at: Mapped[float] = mapped_column(default=db_now())
    updated_at: Mapped[float] = mapped_column(default=db_now(), onupdate=db_now())
    accepted_at: Mapped[float | None]

    account: Mapped[Account] = relationship(
        lazy="joined", innerjoin=True, foreign_keys=[account_id]
    )


class Match(Base):
    """A model against an attack under one set of rules; counts for every board of those rules."""

    __tablename__ = "match"
    __table_args__ = (UniqueConstraint("model_id", "attack_id", "rules_version", "seed"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    model_id: Mapped[str] = mapped_column(ForeignKey("submission.id"), index=True)
    attack_id: Mapped[str] = mapped_column(ForeignKey("submission.id"), index=True)
    rules_version: Mapped[str] = mapped_column(index=True)
    dataset: Mapped[str]
    split: Mapped[str]
    images: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    round_id: Mapped[str | None] = mapped_column(ForeignKey("round.id"), index=True)
    created_at: Mapped[float] = mapped_column(default=db_now())

    model: Mapped[Submission] = relationship(foreign_keys=model_id, lazy="joined", innerjoin=True)
    attack: Mapped[Submission] = relationship(foreign_keys=attack_id, lazy="joined", innerjoin=True)


class Job(Base):
    """Something to run. Only jobs.py changes ``state`` and ``fence``."""

    __tablename__ = "job"
    __table_args__ = (
        CheckConstraint(
            "state IN ('blocked', 'queued', 'leased', 'running', 'succeeded', 'failed_user', "
            "'dead', 'cancelled')",
            name="state",
        ),
        CheckConstraint("kind IN ('validate', 'match')", name="kind"),
        Index("ix_job_claim", "state", "run_after"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    key: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[JobKind] = mapped_column(String)
    state: Mapped[JobState] = mapped_column(String)
    submission_id: Mapped[str] = mapped_column(ForeignKey("submission.id"), index=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    match_id: Mapped[str | None] = mapped_column(ForeignKey("match.id"), index=True)
    priority: Mapped[int] = mapped_column(default=0)
    repeat: Mapped[int] = mapped_column(default=0)
    fence: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    leases_lost: Mapped[int] = mapped_column(default=0)
    owner: Mapped[str | None]
    lease_until: Mapped[float | None]
    run_after: Mapped[float] = mapped_column(default=db_now())
    deadline: Mapped[float]
    run_seconds: Mapped[float]
    cancel_requested_at: Mapped[float | None]
    reason: Mapped[str | None]
    fault_id: Mapped[str | None] = mapped_column(ForeignKey("submission.id"))
    created_at: Mapped[float] = mapped_column(default=db_now())
    started_at: Mapped[float | None]  # when it was last claimed; also tells whose turn is next
    finished_at: Mapped[float | None]


class Attempt(Base):
    """One try at a job: who ran it, how it ended, and what the engine said."""

    __tablename__ = "attempt"

    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), primary_key=True)
    fence: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str]
    host: Mapped[str]
    started_at: Mapped[float] = mapped_column(default=db_now())
    ended_at: Mapped[float | None]
    outcome: Mapped[str | None]
    reason: Mapped[str | None]
    exit_code: Mapped[int | None]
    oom: Mapped[bool] = mapped_column(default=False)
    logs: Mapped[dict[str, Any]] = mapped_column(default=dict)  # {submission: SHA-256}
    provenance: Mapped[dict[str, Any]] = mapped_column(default=dict)
    ledger_sha256: Mapped[str | None]  # of every question of the match (attacks.ledger)


class SampleResult(Base):
    """What the referee found for one image. A fact: inserted once, never changed."""

    __tablename__ = "sample_result"

    match_id: Mapped[str] = mapped_column(ForeignKey("match.id"), primary_key=True)
    sample: Mapped[int] = mapped_column(primary_key=True)
    rules_version: Mapped[str] = mapped_column(primary_key=True)
    image_id: Mapped[str]
    clean_label: Mapped[int]
    predicted: Mapped[int]
    clean_correct: Mapped[bool]
    success: Mapped[bool]
    distance: Mapped[float | None]
    worst_case: Mapped[float]
    distances: Mapped[dict[str, Any] | None]
    queries: Mapped[int]
    seconds: Mapped[float]
    status: Mapped[str]
    reason: Mapped[str | None]
    adversarial_sha256: Mapped[str | None] = mapped_column(index=True)
    trace: Mapped[list[Any]]
    sandbox: Mapped[SandboxKind] = mapped_column(String)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"))
    fence: Mapped[int]


class BoardRow(Base):
    """A board's row, derived. ``data`` is what boards.py computed; it can be made again."""

    __tablename__ = "board_row"
    __table_args__ = (Index("ix_board_row_standing", "board", "rules_version", "standing"),)

    board: Mapped[str] = mapped_column(primary_key=True)
    submission_id: Mapped[str] = mapped_column(ForeignKey("submission.id"), primary_key=True)
    rules_version: Mapped[str] = mapped_column(primary_key=True)
    score: Mapped[float | None]
    state: Mapped[RowState] = mapped_column(String)
    standing: Mapped[float | None]  # against baselines alone: who is among the best
    opponents: Mapped[str]  # SHA-256 of whom it is scored against; another one: it is out of date
    lower: Mapped[float | None]  # this and what follows stands in ``data`` too: here to sort by
    upper: Mapped[float | None]
    clean_accuracy: Mapped[float | None]
    mean_queries: Mapped[float | None]
    worst_id: Mapped[str | None] = mapped_column(ForeignKey("submission.id"))
    isolated: Mapped[bool] = mapped_column(default=True, server_default=true())
    data: Mapped[dict[str, Any]]
    inputs_hash: Mapped[str]
    updated_at: Mapped[float] = mapped_column(default=db_now())


class BoardHistory(Base):
    """What a row of a board became, and when. ``event_id`` orders the rows of all boards."""

    __tablename__ = "board_history"
    __table_args__ = (Index("ix_board_history_board", "board", "rules_version", "event_id"),)

    event_id: Mapped[int] = mapped_column(ForeignKey("event.id"), primary_key=True)
    submission_id: Mapped[str] = mapped_column(ForeignKey("submission.id"), primary_key=True)
    board: Mapped[str]
    rules_version: Mapped[str]
    score: Mapped[float | None]
    state: Mapped[HistoryState] = mapped_column(String)  # "gone": the entry left the board
    created_at: Mapped[float] = mapped_column(default=db_now())


class Challenge(Base):
    """A data set whose tracks this server plays: open for entries until it is closed."""

    __tablename__ = "challenge"

    name: Mapped[str] = mapped_column(primary_key=True)
    opened_at: Mapped[float] = mapped_column(default=db_now())
    closed_at: Mapped[float | None]


class Scoring(Base):
    """How facts become the scores of a board. Number 1 is the track's own rule, and no row."""

    __tablename__ = "scoring"

    track: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    rule: Mapped[dict[str, Any]]
    note: Mapped[str]
    actor: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=db_now())


class Round(Base):
    """A frozen set of models and attacks, each played against each on hidden images.

    ``digest`` is the SHA-256 of all that was frozen, ``images_sha256`` names the hidden images in
    the store, ``scoring`` holds the rule of each track's scores.
    """

    __tablename__ = "round"
    __table_args__ = (
        UniqueConstraint("challenge", "name"),
        CheckConstraint("state IN ('playing', 'published', 'dropped')", name="state"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    challenge: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    state: Mapped[RoundState] = mapped_column(String)
    images: Mapped[int]
    images_sha256: Mapped[str]
    seed: Mapped[int] = mapped_column(BigInteger)
    scoring: Mapped[dict[str, Any]]
    digest: Mapped[str]
    actor: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=db_now())
    published_at: Mapped[float | None]


class RoundEntry(Base):
    """One entry of a round, as it was when the round was frozen."""

    __tablename__ = "round_entry"

    round_id: Mapped[str] = mapped_column(ForeignKey("round.id"), primary_key=True)
    submission_id: Mapped[str] = mapped_column(ForeignKey("submission.id"), primary_key=True)
    track: Mapped[str]
    content: Mapped[str]  # SHA-256 of what was uploaded, or a baseline's specification


class Outbox(Base):
    """Something to do once a job's transaction has been committed."""

    __tablename__ = "outbox"
    __table_args__ = (UniqueConstraint("job_id", "kind"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"))
    kind: Mapped[str]
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[float] = mapped_column(default=db_now())
    drained_at: Mapped[float | None] = mapped_column(index=True)


class QuotaDay(Base):
    """How many submissions an account has used on a track on one day (UTC)."""

    __tablename__ = "quota_day"

    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), primary_key=True)
    track: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    used: Mapped[int] = mapped_column(default=0)


class QuotaLedger(Base):
    """Every change of a quota, once: +1 "submitted", -1 "refunded"."""

    __tablename__ = "quota_ledger"
    __table_args__ = (UniqueConstraint("submission_id", "reason"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    submission_id: Mapped[str] = mapped_column(ForeignKey("submission.id"))
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    track: Mapped[str]
    day: Mapped[str]
    amount: Mapped[int]
    reason: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=db_now())


class Event(Base):
    """Append only: the audit log, and what live pages follow."""

    __tablename__ = "event"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str]
    track: Mapped[str | None] = mapped_column(index=True)
    submission_id: Mapped[str | None]
    actor: Mapped[str | None]
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[float] = mapped_column(default=db_now())
