"""What pages and the API read of challenges and rounds. Part of queries.py's interface."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from .. import challenges, frozen, rules
from .. import rounds as frozen_rounds
from .. import schemas as views
from ..errors import NotFound
from ..policy import Actor, can
from .boards import WHOLE, board_of
from .tables import Round, RoundEntry, Submission
from .views import entry_ref, when


def challenges_here(session: Session) -> list[views.ChallengeView]:
    """Every challenge that was opened on this server."""
    counted = dict(
        session.execute(select(Round.challenge, func.count()).group_by(Round.challenge)).all()
    )
    return [
        views.ChallengeView(
            name=row.name,
            open=row.closed_at is None,
            tracks=[track.name for track in rules.of_challenge(row.name)],
            rounds=counted.get(row.name, 0),
            opened_at=when(row.opened_at),
            closed_at=when(row.closed_at),
        )
        for row in challenges.listed(session).values()
    ]


def challenge(session: Session, name: str) -> views.ChallengeView:
    """One challenge; NotFound when it was never opened here."""
    found = {each.name: each for each in challenges_here(session)}
    if name not in found:
        raise NotFound(
            f"the challenge {name!r} is not played here; there are: {', '.join(found) or 'none'}"
        )
    return found[name]


def rounds(session: Session, challenge_name: str, actor: Actor) -> list[views.RoundView]:
    """The rounds of a challenge, newest first; dropped ones are for its organisers."""
    challenge(session, challenge_name)
    query = select(Round).filter_by(challenge=challenge_name).order_by(Round.id.desc())
    return [
        round_view(session, row, actor)
        for row in session.scalars(query)
        if row.state != "dropped" or can(actor, "round.read", challenge=row.challenge)
    ]


def round_view(session: Session, row: Round, actor: Actor) -> views.RoundView:
    """One round as this actor may see it."""
    states = frozen_rounds.match_states(session, row.id)
    seen = row.state == "published" or can(actor, "round.read", challenge=row.challenge)
    query = (
        select(Submission)
        .join(RoundEntry, RoundEntry.submission_id == Submission.id)
        .where(RoundEntry.round_id == row.id)
        .order_by(RoundEntry.track, Submission.accepted_at, Submission.id)
    )
    return views.RoundView(
        id=row.id,
        challenge=row.challenge,
        name=row.name,
        state=row.state,
        images=row.images,
        images_sha256=row.images_sha256,
        digest=row.digest,
        seed=row.seed if row.state == "published" else None,
        entries=[entry_ref(each) for each in session.scalars(query)],
        boards=[track.name for track in frozen.tracks_of(row)] if seen else [],
        matches=states.total(),
        matches_done=states["succeeded"],
        matches_failed=states["failed_user"],
        matches_stopped=states["dead"] + states["cancelled"],
        created_at=when(row.created_at),
        published_at=when(row.published_at),
    )


def round_of(session: Session, round_id: str, actor: Actor) -> views.RoundView:
    """One round by id; NotFound for a dropped one, but for organisers."""
    row = frozen_rounds.get(session, round_id)
    if row.state == "dropped" and not can(actor, "round.read", challenge=row.challenge):
        raise NotFound(f"there is no round {round_id!r}; look at GET /api/v1/challenges")
    return round_view(session, row, actor)


def round_board(
    session: Session,
    round_id: str,
    track: str,
    actor: Actor,
    query: views.BoardQuery = WHOLE,
) -> views.BoardView:
    """The board of a track in a round; NotFound until it is published, but for organisers."""
    row = frozen_rounds.get(session, round_id)
    if row.state != "published" and not can(actor, "round.read", challenge=row.challenge):
        raise NotFound(f"the boards of the round {row.name!r} are shown once it is published")
    found = {each.name: each for each in frozen.tracks_of(row)}
    if track not in found:
        raise NotFound(f"the round {row.name!r} has no track {track!r}; it has {', '.join(found)}")
    return board_of(session, found[track], query, of_round=True)


def is_seen(session: Session, round_id: str | None, actor: Actor) -> bool:
    """Whether matches of this round may be seen; None is no round."""
    if round_id is None:
        return True
    row = session.get_one(Round, round_id)
    return row.state == "published" or can(actor, "round.read", challenge=row.challenge)
