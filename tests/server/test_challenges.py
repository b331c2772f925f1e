"""Targeted tracks, and challenges that are open or closed."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from bench.errors import UserError
from server import challenges, lifecycle, rules
from server.db import queries
from server.db.engine import Database
from server.db.tables import Event, Job, Match, SampleResult, Submission, Upload
from server.db.writes import insert_ignore
from server.errors import Conflict, NotFound, QuotaSpent
from server.policy import ANONYMOUS, Actor
from server.schemas import SubmissionRequest


def test_each_challenge_has_a_track_of_each_kind() -> None:
    for name in ("mnist5k", "fashion-mnist", "tiny-imagenet-avc"):
        found = {track.kind: track for track in rules.of_challenge(name)}
        assert set(found) == {"model", "untargeted-attack", "targeted-attack"}
        assert [t.name for t in rules.opponents(found["model"])] == [f"{name}-untargeted-attack"]
        for kind in ("untargeted-attack", "targeted-attack"):
            assert [t.name for t in rules.opponents(found[kind])] == [f"{name}-robust-model"]
        versions = {kind: rules.rules_version(track) for kind, track in found.items()}
        assert versions["model"] == versions["untargeted-attack"] != versions["targeted-attack"]


def test_a_model_s_match_concerns_the_targeted_track_too() -> None:
    found = {track.kind: track for track in rules.of_challenge("mnist5k")}
    both = rules.concerned(rules.rules_version(found["model"]))
    assert {track.kind for track in both} == {"model", "untargeted-attack", "targeted-attack"}
    alone = rules.concerned(rules.rules_version(found["targeted-attack"]))
    assert [track.kind for track in alone] == ["targeted-attack"]


def test_a_targeted_attack_plays_the_models_by_its_own_rules(anywhere: Any) -> None:
    base = anywhere.entry("model", "baseline")
    foe = anywhere.entry("untargeted-attack", "baseline")
    model = anywhere.entry("model")
    aimed = anywhere.entry("targeted-attack", "bob")
    anywhere.settle()
    with anywhere.database.read() as session:
        match = session.get_one(Match, anywhere.match(base, aimed))
        assert match.rules_version == rules.rules_version(anywhere.tracks["targeted-attack"])
        mine = select(Match.attack_id).filter_by(model_id=model)
        assert session.scalars(mine).all() == [foe], "models are not scored against targeted ones"
    anywhere.play(model, foe, [2.0] * 4)  # now it is among the five best
    assert anywhere.match(model, aimed)


def test_a_targeted_attack_is_scored_from_its_own_matches(anywhere: Any) -> None:
    base = anywhere.entry("model", "baseline")
    aimed = anywhere.entry("targeted-attack")
    anywhere.settle()
    with anywhere.database.write() as session:
        lifecycle.settle(session, rules.rules_version(anywhere.tracks["targeted-attack"]))
    anywhere.version = rules.rules_version(anywhere.tracks["targeted-attack"])
    anywhere.play(base, aimed, [1.0, 2.0, 3.0, None])
    (row,) = anywhere.board("targeted-attack")
    assert row.score == 2.5  # the median of 1, 2, 3 and the worst case of 20
    assert anywhere.board("untargeted-attack") == []


def test_challenges_are_opened_once_and_stay_as_an_operator_left_them(database: Database) -> None:
    with database.write() as session:
        challenges.open_first(session, ["mnist5k"])
        challenges.closed(session, "mnist5k", "root")
        challenges.open_first(session, ["mnist5k", "fashion-mnist"])
        views = {view.name: view.open for view in queries.challenges_here(session)}
        assert views == {"mnist5k": False, "fashion-mnist": True}
        challenges.opened(session, "mnist5k", "root")
        challenges.opened(session, "mnist5k", "root")
        assert queries.challenge(session, "mnist5k").open
        kinds = [event.kind for event in session.scalars(select(Event).order_by(Event.id))]
        assert kinds == [
            "challenge.opened", "challenge.closed", "challenge.opened", "challenge.opened",
        ]  # fmt: skip


def test_only_tracks_of_opened_challenges_are_listed(sqlite: Database) -> None:
    with sqlite.write() as session:
        assert queries.tracks(session) == []
        challenges.open_first(session, ["fashion-mnist"])
        assert {view.challenge for view in queries.tracks(session)} == {"fashion-mnist"}


def test_what_does_not_exist_is_named_with_what_does(sqlite: Database) -> None:
    with sqlite.write() as session:
        with pytest.raises(UserError, match="no challenge 'mnist'; there are fashion-mnist, mnist"):
            challenges.open_first(session, ["mnist"])
        with pytest.raises(NotFound, match="no challenge 'nope'; there are"):
            challenges.opened(session, "nope", "root")
        with pytest.raises(NotFound, match="never opened on this server"):
            challenges.closed(session, "mnist5k", "root")
        with pytest.raises(NotFound, match="is not played here; there are: none"):
            queries.challenge(session, "mnist5k")


class Submitting:
    """Enters one complete upload after another."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.actor = Actor(world.account(), "ada", "participant", "submit")
        self.count = 0

    def __call__(self, track: str = "mnist5k-robust-model") -> str:
        self.count += 1
        upload = f"upload{self.count}"
        row = {
            "id": upload,
            "account_id": self.actor.account_id,
            "length": 3,
            "received": 3,
            "sha256": "a" * 64,
            "created_at": 0.0,
            "expires_at": 1e12,
        }
        with self.world.database.write() as session:
            insert_ignore(session, Upload, [row])
            request = SubmissionRequest(track=track, name="x", upload=upload)
            return lifecycle.submit(session, self.actor, request, "image", None).id


def test_a_closed_challenge_takes_no_entries(world: Any) -> None:
    submit = Submitting(world)
    with world.database.write() as session:
        challenges.closed(session, "mnist5k", "root")
    with pytest.raises(Conflict, match="takes no entries any more; open are: none"):
        submit()
    with world.database.write() as session:
        challenges.opened(session, "mnist5k", "root")
    assert submit()


def test_a_challenge_that_was_never_opened_takes_no_entries(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # all tracks again, not the small ones
    with pytest.raises(Conflict, match="takes no entries on this server; open are: mnist5k"):
        Submitting(world)("fashion-mnist-robust-model")


def test_so_many_submissions_are_tried_at_a_time(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    small = {
        name: replace(track, limits=replace(track.limits, in_flight=2, submissions_per_day=9))
        for name, track in rules.tracks().items()
    }
    monkeypatch.setattr(rules, "tracks", lambda: small)
    submit = Submitting(world)
    first, _ = submit(), submit()
    with pytest.raises(QuotaSpent, match="2 of your submissions .* are being tried, and 2 at a"):
        submit()
    assert submit("mnist5k-untargeted-attack"), "another track has room of its own"
    with world.database.write() as session:
        lifecycle.cancel(session, session.get_one(Submission, first), submit.actor)
    assert submit()


def test_baselines_are_entered_where_a_challenge_is_open(world: Any) -> None:
    with world.database.write() as session:
        entered = lifecycle.enter_baselines(session)
        assert {row.track for row in entered} == {
            "mnist5k-robust-model", "mnist5k-untargeted-attack",
        }  # fmt: skip
        challenges.closed(session, "mnist5k", "root")
        assert lifecycle.enter_baselines(session) == []


def test_slow_baselines_are_entered_when_they_are_asked_for(
    sqlite: Database,
) -> None:
    with sqlite.write() as session:
        challenges.open_first(session, ["mnist5k"])
        quick = {row.name for row in lifecycle.enter_baselines(session)}
        slow = {row.name for row in lifecycle.enter_baselines(session, slow=True)}
        assert {"small_cnn", "gaussian_noise", "interpolation"} <= quick
        assert {"abs", "binary_cnn", "transfer", "transfer + boundary"} <= slow
        assert not quick & {"abs", "transfer"}
        assert session.scalars(select(Job.id)).first()
        assert session.scalars(select(SampleResult)).first() is None
        assert queries.matches(session, limit=1).items
        assert queries.board(session, "mnist5k-targeted-attack").rows
        assert queries.submissions(session, ANONYMOUS).items == []
