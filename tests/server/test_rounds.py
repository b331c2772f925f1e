"""Rounds: frozen, hashed, played on hidden images by real entries, published for good."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import select, update

import bench
from bench.errors import InfrastructureError, UserError
from bench.tracks.types import Track
from server import (
    accounts,
    frozen,
    hidden,
    housekeeping,
    lifecycle,
    replaying,
    rescoring,
    rounds,
    rules,
    settings,
)
from server.api.deps import State
from server.app import create_app
from server.db import queries
from server.db.tables import (
    BoardRow,
    Event,
    Job,
    Match,
    Round,
    RoundEntry,
    SampleResult,
    Submission,
)
from server.errors import Conflict, Invalid, NotFound
from server.policy import ANONYMOUS, Actor
from server.storage import Store

OPERATOR = Actor(None, "root", "operator", "operate")
MODEL = "mnist5k-robust-model"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "artefacts")


def freeze(world: Any, store: Store, name: str = "final", **options: Any) -> str:
    with world.database.write() as session:
        row = rounds.freeze(session, store, "mnist5k", name, actor="root", **options)
        return row.id


def field(world: Any) -> dict[str, str]:
    """A model and an attack of each kind by participants, and two baselines."""
    made = {
        "base": world.entry("model", "baseline"),
        "noise": world.entry("untargeted-attack", "baseline"),
        "model": world.entry("model"),
        "attack": world.entry("untargeted-attack", "bob"),
        "aimed": world.entry("targeted-attack", "cyd"),
    }
    world.settle()
    return made


def finish(world: Any, round_id: str, distance: float = 1.0) -> None:
    """Record every match of a round as played."""
    with world.database.read() as session:
        matches = session.scalars(select(Match).filter_by(round_id=round_id)).all()
        pairs = [(m.id, m.rules_version, m.images) for m in matches]
    for match, version, images in pairs:
        with world.database.write() as session:
            job = session.scalars(select(Job).filter_by(match_id=match)).one()
            for index in range(images):
                session.add(
                    SampleResult(
                        match_id=match, sample=index, rules_version=version,
                        image_id=f"hidden-{index:05d}", clean_label=1, predicted=1,
                        clean_correct=True, success=True, distance=distance, worst_case=20.0,
                        distances=None, queries=9, seconds=0.1, status="success", reason=None,
                        adversarial_sha256=None, trace=[], sandbox="docker", job_id=job.id, fence=1,
                    )
                )  # fmt: skip
            session.execute(update(Job).where(Job.id == job.id).values(state="succeeded"))
            lifecycle.settle(session, version)


def test_all_accepted_entries_are_frozen_and_each_meets_each(anywhere: Any, store: Store) -> None:
    entries = field(anywhere)
    anywhere.entry("model", "dan", state="rejected")
    round_id = freeze(anywhere, store, images=5)
    with anywhere.database.read() as session:
        frozen_ids = set(session.scalars(select(RoundEntry.submission_id)))
        assert frozen_ids == set(entries.values())
        played = select(Match.model_id, Match.attack_id).filter_by(round_id=round_id)
        assert {tuple(pair) for pair in session.execute(played)} == {
            (entries[model], entries[attack])
            for model in ("base", "model")
            for attack in ("noise", "attack", "aimed")
        }
        view = queries.round_of(session, round_id, ANONYMOUS)
    assert (view.state, view.images, view.matches, view.matches_done) == ("playing", 5, 6, 0)
    assert (view.seed, view.boards) == (None, []), "neither the seed nor a score before it is over"


def test_only_the_best_participants_where_so_many_are_asked_for(
    anywhere: Any, store: Store
) -> None:
    entries = field(anywhere)
    better = anywhere.entry("model", "dan")
    anywhere.settle()
    anywhere.play(entries["model"], entries["noise"], [1.0] * 4)
    anywhere.play(better, entries["noise"], [2.0] * 4)
    freeze(anywhere, store, images=3, best=1)
    with anywhere.database.read() as session:
        models = select(RoundEntry.submission_id).filter_by(track=MODEL)
        assert set(session.scalars(models)) == {entries["base"], better}


def test_boards_are_shown_when_every_match_is_over_and_never_move_again(
    anywhere: Any, store: Store
) -> None:
    entries = field(anywhere)
    round_id = freeze(anywhere, store, images=3)
    database = anywhere.database
    with pytest.raises(Conflict, match="6 matches wait or run"), database.write() as session:
        rounds.publish(session, round_id, "root")
    finish(anywhere, round_id, distance=2.0)
    with database.read() as session:
        with pytest.raises(NotFound, match="shown once it is published"):
            queries.round_board(session, round_id, MODEL, ANONYMOUS)
        assert queries.round_board(session, round_id, MODEL, OPERATOR).rows[0].score == 2.0
        hidden_match = session.scalars(select(Match.id).filter_by(round_id=round_id)).first()
        assert hidden_match is not None
        with pytest.raises(NotFound, match="once it is published"):
            queries.match(session, hidden_match)
        listed = {m.id for m in queries.matches(session, limit=100).items}
        assert hidden_match not in listed
    with database.write() as session:
        rounds.publish(session, round_id, "root")
        rounds.publish(session, round_id, "root")
    with database.read() as session:
        board = queries.round_board(session, round_id, MODEL, ANONYMOUS)
        assert {row.score for row in board.rows} == {2.0}
        assert board.waiting == 0
        assert queries.match(session, hidden_match).summary is not None
        with pytest.raises(NotFound, match="samples stay hidden"):
            queries.samples(session, hidden_match)
        view = queries.round_of(session, round_id, ANONYMOUS)
        assert view.seed is not None
        kinds = [e.kind for e in session.scalars(select(Event).order_by(Event.id))]
        assert kinds.count("round.published") == 1
    with database.write() as session:
        lifecycle.move(session, entries["model"], "withdrawn")
        session.execute(
            update(SampleResult).where(SampleResult.image_id == "hidden-00000").values(distance=9.0)
        )
        frozen.refresh(session, rounds.get(session, round_id), None)
    with database.read() as session:
        assert queries.round_board(session, round_id, MODEL, ANONYMOUS).rows == board.rows


def test_a_withdrawn_entry_plays_the_rounds_it_was_frozen_in(anywhere: Any, store: Store) -> None:
    entries = field(anywhere)
    round_id = freeze(anywhere, store, images=3)
    actor = Actor(anywhere.account(), "ada", "participant", "submit")
    with anywhere.database.write() as session:
        lifecycle.withdraw(session, session.get_one(Submission, entries["model"]), actor)
    with anywhere.database.read() as session:
        states = rounds.match_states(session, round_id)
        assert states == {"queued": 6}
    finish(anywhere, round_id)
    with anywhere.database.write() as session:
        rounds.publish(session, round_id, "root")
        board = queries.round_board(session, round_id, MODEL, ANONYMOUS)
        assert {row.entry.id for row in board.rows} == {entries["base"], entries["model"]}


def test_what_was_frozen_and_is_changed_is_not_published(anywhere: Any, store: Store) -> None:
    field(anywhere)
    round_id = freeze(anywhere, store, images=3)
    finish(anywhere, round_id)
    with anywhere.database.write() as session:
        session.execute(update(Round).values(seed=1))
    with pytest.raises(Conflict, match="is not what its digest"), anywhere.database.write() as s:
        rounds.publish(s, round_id, "root")


def test_a_round_that_our_side_failed_waits_for_the_rerun(anywhere: Any, store: Store) -> None:
    entries = field(anywhere)
    round_id = freeze(anywhere, store, images=3)
    finish(anywhere, round_id)
    with anywhere.database.write() as session:
        mine = select(Match.id).filter_by(round_id=round_id, model_id=entries["model"])
        match = session.scalars(mine).first()
        session.execute(update(Job).where(Job.match_id == match).values(state="dead"))
    with pytest.raises(Conflict, match="1 stopped on our side"), anywhere.database.write() as s:
        rounds.publish(s, round_id, "root")
    with anywhere.database.write() as session:
        owner = session.scalars(select(Job).filter_by(match_id=match)).one().submission_id
        lifecycle.rerun(session, session.get_one(Submission, owner), OPERATOR)
        assert rounds.match_states(session, round_id)["queued"] == 1


def test_a_dropped_round_is_seen_by_operators_alone(anywhere: Any, store: Store) -> None:
    field(anywhere)
    round_id = freeze(anywhere, store, images=3)
    with anywhere.database.write() as session:
        rounds.drop(session, round_id, "root")
        rounds.drop(session, round_id, "root")
        assert rounds.match_states(session, round_id) == {"cancelled": 6}
        with pytest.raises(NotFound):
            queries.round_of(session, round_id, ANONYMOUS)
        assert queries.round_of(session, round_id, OPERATOR).state == "dropped"
        assert queries.rounds(session, "mnist5k", ANONYMOUS) == []
        with pytest.raises(Conflict, match="is dropped; that can't be changed"):
            rounds.publish(session, round_id, "root")


def test_what_cannot_be_frozen_is_refused_and_nothing_is_left(anywhere: Any, store: Store) -> None:
    with pytest.raises(Conflict, match="there is no model, or no attack"):
        freeze(anywhere, store, images=3)
    field(anywhere)
    with pytest.raises(Invalid, match="wanted 1 to 80 characters"):
        freeze(anywhere, store, " ")
    with pytest.raises(Invalid, match="got the best 0"):
        freeze(anywhere, store, best=0)
    with pytest.raises(UserError, match="has 996 test images that its tracks do not show"):
        freeze(anywhere, store, images=997)
    assert freeze(anywhere, store, "one", images=3)
    with pytest.raises(Conflict, match="has a round named 'one' already"):
        freeze(anywhere, store, "one", images=3)
    with anywhere.database.read() as session:
        assert len(session.scalars(select(Round)).all()) == 1


def test_a_board_that_is_scored_in_another_norm_is_not_frozen(anywhere: Any, store: Store) -> None:
    field(anywhere)
    rule = {"norm": "linf"}
    with anywhere.database.read() as session:
        digest = rescoring.difference(session, MODEL, rule).digest
    with anywhere.database.write() as session:
        rescoring.publish(session, MODEL, rule, digest=digest, note="", actor="root")
    with pytest.raises(Conflict, match="scored by linf distances today, and rounds by l2 alone"):
        freeze(anywhere, store, images=3)
    with anywhere.database.read() as session:
        assert session.scalars(select(Round)).all() == []


def test_hidden_images_are_new_to_the_track_and_differ_by_seed(tracks: dict[str, Track]) -> None:
    track = tracks[MODEL]
    shown = {p.tobytes() for p in bench.dataset("mnist5k").take(track.images).pixels}
    one, same, other = (hidden.drawn(track, 40, seed) for seed in (1, 1, 2))
    assert not shown & {p.tobytes() for p in one.pixels}
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    assert one.ids[0] == "hidden-00000", "the ids do not tell which images they are"
    assert sorted(np.bincount(one.labels)) == [4] * 10


def test_an_organiser_s_own_images_are_taken_and_kept(
    tracks: dict[str, Track], store: Store, tmp_path: Path
) -> None:
    from dataclasses import replace

    track = tracks[MODEL]
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28, 1), dtype=np.uint8)
    np.savez(tmp_path / "own.npz", images=images, labels=np.arange(6))
    data = hidden.from_file(track, tmp_path / "own.npz", 4)
    sha256 = hidden.put(store, data)
    loaded = hidden.load(store, replace(track, split=hidden.split_of(sha256), images=4))
    assert np.array_equal(loaded.pixels, images[:4])
    assert (loaded.labels.tolist(), loaded.ids) == ([0, 1, 2, 3], data.ids)
    store.path(sha256).unlink()
    hidden._load.cache_clear()
    with pytest.raises(InfrastructureError, match="restore it from its backup"):
        hidden.load(store, replace(track, split=hidden.split_of(sha256), images=4))


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"pictures": np.zeros(1)}, "holds pictures; wanted the arrays images"),
        ({"images": np.zeros((2, 28, 28, 1)), "labels": np.arange(2)}, "images are float64"),
        ({"images": np.zeros((2, 28, 28), np.uint8), "labels": np.arange(2)}, r"\(N,28,28,1\)"),
        (
            {"images": np.zeros((2, 28, 28, 1), np.uint8), "labels": np.arange(3)},
            "one whole number",
        ),
        (
            {"images": np.zeros((2, 28, 28, 1), np.uint8), "labels": np.array([0, 10])},
            "labels go from 0 to 10; wanted 0 to 9",
        ),
        (
            {"images": np.zeros((2, 28, 28, 1), np.uint8), "labels": np.arange(2)},
            "has 2 images, and 3 were asked for",
        ),
    ],
)
def test_a_wrong_file_of_images_is_refused(
    arrays: dict[str, Any], reason: str, tracks: dict[str, Track], tmp_path: Path
) -> None:
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(UserError, match=reason):
        hidden.from_file(tracks[MODEL], tmp_path / "own.npz", 3)


def test_a_file_that_is_none_is_refused(tracks: dict[str, Track], tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    for name in ("text.npz", "none.npz"):
        with pytest.raises(UserError, match="can't read"):
            hidden.from_file(tracks[MODEL], tmp_path / name)


def test_the_images_of_a_round_are_no_leftover(anywhere: Any, store: Store) -> None:
    field(anywhere)
    freeze(anywhere, store, images=3)
    with anywhere.database.read() as session:
        sha256 = session.scalars(select(Round.images_sha256)).one()
    assert sha256 in housekeeping.referenced(anywhere.database)


@pytest.fixture
def state(tmp_path: Path, tracks: dict[str, Track], serve: Callable[[FastAPI], str]) -> State:
    """A real server with a worker, on four public images and two baselines."""
    chosen = settings.load(data_dir=tmp_path / "data", sandbox="process", poll_seconds=0.05)
    app = create_app(chosen)
    app.state.tiltyard.address = serve(app)
    state: State = app.state.tiltyard
    return state


@pytest.fixture
def server(state: State) -> Iterator[httpx.Client]:
    """A client of that server."""
    with httpx.Client(base_url=state.address, timeout=60) as client:  # type: ignore[attr-defined]
        yield client


def operator(state: State) -> dict[str, str]:
    with state.database.write() as session:
        accounts.create_user(session, "root", "operator")
        return {"Authorization": f"Bearer {accounts.create_token(session, 'root', 'operate')}"}


def check_replays(state: State) -> None:
    """Every match is found again as it is on record, and a record that was changed is told."""
    with state.database.read() as session:
        matches = session.scalars(select(Match.id)).all()
        assert len(matches) == 2
        for match in matches:
            found = replaying.replay(session, state.store, match)
            assert found.wrong == ()
            assert found.questions > 0
            assert found.asked_again > 0
    with state.database.write() as session:
        session.execute(
            update(SampleResult)
            .where(SampleResult.match_id == matches[0], SampleResult.success)
            .values(distance=SampleResult.distance / 2, queries=SampleResult.queries + 1)
        )
        told = replaying.replay(session, state.store, matches[0]).wrong
        assert any("queries on record" in line for line in told)
        assert any("measured" in line for line in told)
        with pytest.raises(UserError, match="there is no match 'nope'"):
            replaying.replay(session, state.store, "nope")


@pytest.mark.slow
def test_a_round_is_played_by_a_server_on_hidden_images(server: httpx.Client, state: State) -> None:
    headers = operator(state)
    body = {"name": "final", "images": 6}
    refused = server.post("/api/v1/challenges/mnist5k/rounds", json=body)
    assert refused.status_code == 401
    made = server.post("/api/v1/challenges/mnist5k/rounds", json=body, headers=headers)
    assert made.status_code == 201, made.text
    where = made.headers["location"]
    deadline = time.monotonic() + 120
    while (view := server.get(where).json())["matches_done"] < view["matches"]:
        assert time.monotonic() < deadline, view
        time.sleep(0.2)
    published = server.post(f"{where}:publish", headers=headers)
    assert published.status_code == 202, published.text
    board = server.get(f"{where}/boards/{MODEL}").json()
    (row,) = board["rows"]
    assert row["state"] == "scored"
    assert 0 < row["score"] < 20
    assert row["why"]["image_id"].startswith("hidden-")
    assert board["track"]["hidden"] is True
    match = server.get(f"/api/v1/matches/{row['why']['match_id']}").json()
    assert match["summary"]["n"] == 6
    assert server.get(f"/api/v1/matches/{match['id']}/samples").status_code == 404
    with state.database.read() as session:
        results = session.scalars(select(SampleResult).filter_by(match_id=match["id"])).all()
        shown = [r.adversarial_sha256 for r in results if r.adversarial_sha256]
        assert shown
        assert {r.reason for r in results} == {None}
        images = session.scalars(select(Round.images_sha256)).one()
        stored = session.scalars(select(BoardRow).where(BoardRow.rules_version.contains(images)))
        assert stored.first() is not None
    for sha256 in (*shown[:1], images):
        assert server.get(f"/api/v1/artifacts/{sha256}").status_code == 404
        assert server.get(f"/api/v1/artifacts/{sha256}", headers=headers).status_code == 404
    check_replays(state)
    page = server.get(f"/matches/{match['id']}", headers={"accept": "text/html"})
    assert page.status_code == 200
    assert rules.PUBLIC_SPLITS == ("train", "test")
