"""server/boards.py: scores by hand, states in words, opponents without a circle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from bench.tracks.types import Track
from server import boards, lifecycle, rules, standings
from server.boards import Entry, Fact, Played
from server.db import queries
from server.db.tables import BoardRow, Event, Job, Match, Submission
from server.policy import ANONYMOUS, Actor

WORST = 20.0
_by_kind = {track.kind: track for track in rules.of_challenge("mnist5k")}
MODEL, ATTACK = _by_kind["model"], _by_kind["untargeted-attack"]


def fact(distance: float | None, sandbox: str = "docker", index: int = 0) -> Fact:
    status = "failed" if distance is None else "success" if distance else "clean_error"
    return Fact(
        image_id=f"i{index}",
        clean_correct=distance != 0,
        status=status,
        success=bool(distance),
        distance=distance,
        worst_case=WORST,
        queries=0 if distance == 0 else 10,
        sandbox=sandbox,
    )


def played(foe: str, distances: Sequence[float | None], sandbox: str = "docker") -> Played:
    facts = tuple(fact(d, sandbox, i) for i, d in enumerate(distances))
    return Played(f"m-{foe}", foe, "done", facts)


def row(track: Track, *matches: Played, expected: Sequence[str] = ()) -> dict[str, Any]:
    foes = sorted({match.opponent_id for match in matches} | set(expected))
    entry = Entry("e", False, 0.0, {match.opponent_id: match for match in matches})
    return boards.compute(track, entry, foes, frozenset(foes))


def test_a_model_scores_the_median_of_the_smallest_distances() -> None:
    found = row(MODEL, played("a", [0, 1.0, 3.0]), played("b", [0, 2.0, 0.5]))
    assert found["score"] == 0.5  # smallest: 0, 1.0, 0.5
    assert found["clean_accuracy"] == pytest.approx(2 / 3)
    assert found["why"] == {
        "image_id": "i2",
        "distance": 0.5,
        "failed": False,
        "match_id": "m-b",
        "opponent_id": "b",
    }
    assert found["worst_opponent"]["opponent_id"] == "b"  # medians: a 1.0, b 0.5


def test_an_attack_scores_its_medians_averaged_over_models() -> None:
    found = row(ATTACK, played("a", [1.0, 2.0, 3.0]), played("b", [4.0, 6.0, 8.0]))
    assert found["score"] == (2.0 + 6.0) / 2
    assert found["worst_opponent"]["opponent_id"] == "b"
    assert found["clean_accuracy"] is None


def test_a_failed_sample_counts_as_the_worst_case_and_is_counted() -> None:
    found = row(ATTACK, played("a", [None, None, 1.0]))
    assert found["score"] == WORST
    assert found["failed_samples"] == 2
    assert found["why"]["failed"] is True


def test_a_model_that_always_errs_scores_zero() -> None:
    assert row(MODEL, played("a", [0, 0, 0]))["score"] == 0.0


def test_queries_are_averaged_over_attacked_samples_only() -> None:
    assert row(MODEL, played("a", [0, 1.0, 2.0]))["mean_queries"] == 10.0


def test_a_row_waits_for_every_baseline() -> None:
    found = row(MODEL, played("a", [1.0]), expected=["b"])
    assert (found["state"], found["score"]) == ("playing", None)
    assert found["reason"] == "its score still needs 1 match"
    assert (found["matches_done"], found["matches_expected"]) == (1, 2)


def test_a_row_does_not_wait_for_the_five_best() -> None:
    entry = Entry("e", False, 0.0, {"a": played("a", [1.0])})
    found = boards.compute(MODEL, entry, ["a", "best"], frozenset({"a"}))
    assert (found["state"], found["score"]) == ("scored", 1.0)
    assert (found["matches_done"], found["matches_expected"]) == (1, 2)


def test_an_entry_that_failed_has_no_score_and_says_so() -> None:
    found = row(MODEL, played("a", [1.0]), Played("m", "b", "failed"))
    assert (found["state"], found["score"]) == ("failed", None)
    assert "by its own fault" in found["reason"]


def test_an_opponent_that_failed_is_not_expected() -> None:
    found = row(MODEL, played("a", [1.0]), Played("m", "b", "void"))
    assert (found["state"], found["score"]) == ("scored", 1.0)
    assert (found["matches_done"], found["matches_expected"]) == (1, 1)


def test_a_match_that_we_stopped_leaves_the_row_unscored() -> None:
    found = row(MODEL, played("a", [1.0]), Played("m", "b", "stopped"))
    assert found["score"] is None
    assert found["reason"] == "1 match stopped on our side; an operator runs them again"


def test_one_result_of_the_process_sandbox_marks_the_row() -> None:
    assert row(MODEL, played("a", [1.0], "trusted"), played("b", [1.0]))["isolated"] is True
    assert row(MODEL, played("a", [1.0]), played("b", [1.0], "process"))["isolated"] is False


distances = st.lists(
    st.lists(st.none() | st.just(0.0) | st.floats(0.1, 10), min_size=3, max_size=3),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("track", [MODEL, ATTACK], ids=["model", "attack"])
@given(table=distances)
@settings(max_examples=25, deadline=None)
def test_a_score_does_not_depend_on_the_order_of_the_matches(
    track: Track, table: list[list[float | None]]
) -> None:
    matches = [played(f"f{i}", line) for i, line in enumerate(table)]
    entry = Entry("e", False, 0.0, {match.opponent_id: match for match in matches})
    foes = list(entry.played)
    one = boards.compute(track, entry, foes, frozenset(foes))
    backwards = Entry("e", False, 0.0, dict(reversed(list(entry.played.items()))))
    other = boards.compute(track, backwards, foes[::-1], frozenset(foes))
    assert one["score"] == pytest.approx(other["score"])
    assert one["interval"] == pytest.approx(other["interval"])
    assert one["failed_samples"] == other["failed_samples"]
    assert one["mean_queries"] == other["mean_queries"]


def test_another_distance_gives_another_inputs_hash() -> None:
    def digest(distance: float) -> str:
        entry = Entry("e", False, 0.0, {"a": played("a", [distance])})
        return boards.inputs_hash(MODEL, entry, ["a"], frozenset({"a"}))

    assert digest(1.0) == digest(1.0)
    assert digest(1.0) != digest(1.5)


def test_the_best_are_judged_by_baselines_alone_and_ties_go_to_the_older(anywhere: Any) -> None:
    foe = anywhere.entry("untargeted-attack", "baseline")
    zoo = anywhere.entry("model", "baseline")
    other = anywhere.entry("untargeted-attack")
    weak, old, young, _unplayed = (anywhere.entry("model") for _ in range(4))
    anywhere.settle()
    anywhere.play(zoo, other, [1.0] * 4)  # which makes it an opponent of all models
    for model, by_baseline, by_other in (
        (weak, 1.0, 9.0),
        (old, 3.0, 0.1),
        (young, 3.0, 9.0),
    ):
        anywhere.play(model, foe, [by_baseline] * 4)
        anywhere.play(model, other, [by_other] * 4)
    anywhere.play(zoo, foe, [9.0] * 4)
    with anywhere.database.read() as session:
        only = replace(anywhere.tracks["model"], top_opponents=2)
        assert standings.opponents(session, only) == ((zoo, old, young), frozenset({zoo}))
        attacks = replace(anywhere.tracks["untargeted-attack"], top_opponents=1)
        assert standings.opponents(session, attacks) == ((foe, other), frozenset({foe}))


def test_a_board_ranks_scores_shares_ties_and_puts_the_unscored_last(anywhere: Any) -> None:
    foe = anywhere.entry("untargeted-attack", "baseline")
    models = [anywhere.entry("model", owner) for owner in ("ada", "bob", "cyd", "dan")]
    anywhere.settle()
    for model, distance in zip(models, (1.0, 2.0, 2.0), strict=False):
        anywhere.play(model, foe, [distance] * 4)
    rows = anywhere.board("model")
    assert [(row.rank, row.owner, row.score) for row in rows] == [
        (1, "bob", 2.0),
        (1, "cyd", 2.0),
        (3, "ada", 1.0),
        (None, "dan", None),
    ]
    assert [row.separable for row in rows] == [False, True, None, None]
    assert rows[0].why is not None
    assert rows[0].why.opponent.id == foe
    assert (rows[3].state, rows[3].matches_expected) == ("playing", 1)


def test_an_attack_board_puts_the_smallest_first(anywhere: Any) -> None:
    model = anywhere.entry("model", "baseline")
    attacks = [anywhere.entry("untargeted-attack") for _ in range(2)]
    anywhere.settle()
    anywhere.play(model, attacks[0], [3.0] * 4)
    anywhere.play(model, attacks[1], [1.0] * 4)
    assert [row.score for row in anywhere.board("untargeted-attack")] == [1.0, 3.0]


def test_accepting_an_entry_schedules_its_matches_for_both_boards(anywhere: Any) -> None:
    baseline_model = anywhere.entry("model", "baseline")
    baseline_attack = anywhere.entry("untargeted-attack", "baseline")
    model, attack = anywhere.entry("model"), anywhere.entry("untargeted-attack")
    anywhere.settle()
    expected = [
        (baseline_model, baseline_attack),
        (baseline_model, attack),
        (model, baseline_attack),
    ]
    for pair in expected:
        assert anywhere.match(*pair)
    with anywhere.database.read() as session:
        matches = session.scalars(select(Match.id)).all()
    anywhere.settle()
    with anywhere.database.read() as session:
        assert session.scalars(select(Match.id)).all() == matches, "nothing is scheduled twice"


def test_a_match_that_is_missing_is_queued_again_at_the_next_start(anywhere: Any) -> None:
    foe, model = anywhere.entry("untargeted-attack", "baseline"), anywhere.entry("model")
    anywhere.settle()
    gone = anywhere.match(model, foe)
    with anywhere.database.write() as session:
        session.execute(delete(Job).where(Job.match_id == gone))
        session.execute(delete(Match).where(Match.id == gone))
    with anywhere.database.write() as session:
        lifecycle.settle_all(session)
    made = anywhere.match(model, foe)
    assert made != gone
    with anywhere.database.read() as session:
        assert session.get_one(Job, anywhere.job(made)).state == "queued"


def test_a_new_best_attack_is_played_against_everybody(anywhere: Any) -> None:
    model_baseline = anywhere.entry("model", "baseline")
    anywhere.entry("untargeted-attack", "baseline")
    model, attack = anywhere.entry("model"), anywhere.entry("untargeted-attack")
    anywhere.settle()
    anywhere.play(model_baseline, attack, [1.0] * 4)
    assert anywhere.match(model, attack), "the attack is among the five best now"


def test_a_withdrawn_entry_leaves_the_board_and_its_matches_are_cancelled(anywhere: Any) -> None:
    foe = anywhere.entry("untargeted-attack", "baseline")
    model = anywhere.entry("model")
    anywhere.settle()
    actor = Actor(anywhere.account(), "ada", "participant", "submit")
    with anywhere.database.write() as session:
        row = session.get_one(Submission, model)
        lifecycle.withdraw(session, row, actor)
        lifecycle.withdraw(session, row, actor)
    assert anywhere.board("model") == []
    with anywhere.database.read() as session:
        assert session.get_one(Job, anywhere.job(anywhere.match(model, foe))).state == "cancelled"


def test_stored_rows_hash_to_a_recomputation_and_an_event_tells_of_a_change(anywhere: Any) -> None:
    foe = anywhere.entry("untargeted-attack", "baseline")
    model = anywhere.entry("model")
    anywhere.settle()
    anywhere.play(model, foe, [1.0, 2.0, None, 0])
    track = anywhere.tracks["model"]
    with anywhere.database.read() as session:
        due = standings.due(session, track, None)
        assert [entry.id for entry in standings.entries_of(session, due)] == [model]
        for entry in standings.entries_of(session, due):
            stored = session.get_one(BoardRow, (track.name, entry.id, anywhere.version))
            assert stored.inputs_hash == boards.inputs_hash(track, entry, due.foes, due.required)
        assert standings.due(session, track, ()).entries == frozenset()
        before = session.scalars(select(Event.id)).all()
    with anywhere.database.write() as session:
        assert standings.update(session, standings.due(session, track, None)) is False
    with anywhere.database.read() as session:
        assert session.scalars(select(Event.id)).all() == before
        last = session.scalars(select(Event).order_by(Event.id.desc())).first()
        assert last is not None
        assert (last.kind, last.track) in {("board", t.name) for t in anywhere.tracks.values()}


def test_the_reason_of_a_failure_is_not_for_everybody(anywhere: Any) -> None:
    foe = anywhere.entry("untargeted-attack", "baseline")
    model = anywhere.entry("model")
    anywhere.settle()
    match = anywhere.match(model, foe)
    anywhere.end(match, "failed_user", fault=model)
    owner = Actor(anywhere.account(), "ada", "participant", "submit")
    with anywhere.database.read() as session:
        assert "secret" not in (queries.match(session, match, ANONYMOUS).reason or "")
        assert queries.match(session, match, owner).reason == "secret reason"
    (row,) = anywhere.board("model")
    assert row.state == "failed"
    assert "secret" not in (row.reason or "")
