"""Scores by another rule: nothing is played, the difference comes first, history stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from bench.tracks.types import Scoring
from server import boards, lifecycle, rescoring, rules
from server.boards import Fact
from server.db import queries
from server.db.tables import BoardRow, Event, Job, SampleResult
from server.errors import BadRequest, Conflict, Invalid, NotFound

BOARD = "mnist5k-robust-model"


def fact(
    image: str = "i",
    distance: float | None = 2.0,
    queries: int = 20,
    trace: tuple[tuple[int, float], ...] = ((5, 4.0), (15, 2.5)),
    distances: dict[str, float] | None = None,
    status: str = "success",
) -> Fact:
    return Fact(
        image_id=image,
        clean_correct=status != "clean_error",
        status=status,
        success=distance is not None and status == "success",
        distance=distance,
        worst_case=20.0,
        queries=queries,
        sandbox="docker",
        trace=trace,
        distances=distances,
    )


def counted(rule: Scoring, *facts: Fact, worst: dict[str, float] | None = None) -> list[float]:
    return [each.counted for each in boards.scored(facts, rule, worst or {})]


@pytest.mark.parametrize(
    ("queries", "wanted"), [(4, 20.0), (5, 4.0), (14, 4.0), (15, 2.5), (19, 2.5), (20, 2.0)]
)
def test_fewer_queries_count_what_was_known_by_then(queries: int, wanted: float) -> None:
    assert counted(Scoring(queries=queries), fact()) == [wanted]


def test_a_clean_error_counts_nothing_by_any_rule() -> None:
    wrong = fact(distance=0.0, queries=0, trace=(), status="clean_error")
    assert counted(Scoring(queries=1), wrong) == [0.0]


def test_another_norm_counts_its_distance_and_its_farthest_corner() -> None:
    found = fact("a", distances={"linf": 0.3})
    missed = fact("b", distance=None, status="failed", trace=())
    worst = {"a": 1.0, "b": 0.9}
    assert counted(Scoring(norm="linf"), found, missed, worst=worst) == [0.3, 0.9]


def test_an_excluded_image_counts_for_nobody() -> None:
    assert counted(Scoring(exclude=("a",)), fact("a"), fact("b", distance=3.0)) == [3.0]


@given(
    trace=st.lists(
        st.tuples(st.integers(1, 100), st.floats(0.1, 10.0)), max_size=8, unique_by=lambda p: p[0]
    ),
    budgets=st.lists(st.integers(1, 100), min_size=2, max_size=2),
)
def test_more_queries_never_count_more(trace: list[tuple[int, float]], budgets: list[int]) -> None:
    one = fact(distance=None, status="failed", queries=100, trace=tuple(sorted(trace)))
    few, many = sorted(budgets)
    assert counted(Scoring(queries=many), one) <= counted(Scoring(queries=few), one)


def scene(world: Any) -> dict[str, str]:
    """Two models and a baseline attack; ada leads by all queries, bob by the first four."""
    foe = world.entry("untargeted-attack", "baseline")
    models = {owner: world.entry("model", owner) for owner in ("ada", "bob")}
    world.settle()
    world.play(models["ada"], foe, [3.0] * 4)
    world.play(models["bob"], foe, [2.0] * 4)
    with world.database.write() as session:
        match = world.match(models["bob"], foe)
        session.execute(
            update(SampleResult).where(SampleResult.match_id == match).values(trace=[[8, 2.0]])
        )
    return models


def test_the_difference_is_shown_and_changes_nothing(anywhere: Any) -> None:
    models = scene(anywhere)
    with anywhere.database.read() as session:
        before = session.scalar(select(func.count(Job.id)))
        found = rescoring.difference(session, BOARD, {"queries": 6})
        view = rescoring.view(session, found, published=False)
    assert {
        c.entry.id: (c.old_score, c.new_score, c.old_rank, c.new_rank) for c in view.changes
    } == {
        models["ada"]: (3.0, 3.0, 1, 2),
        models["bob"]: (2.0, 20.0, 2, 1),
    }
    assert (view.changed, view.current.number, view.proposed.number) == (2, 1, 2)
    assert [row.owner for row in anywhere.board("model")] == ["ada", "bob"]
    with anywhere.database.read() as session:
        assert session.scalar(select(func.count(Job.id))) == before


def test_what_was_shown_is_published_as_a_new_version_and_the_old_rows_stay(anywhere: Any) -> None:
    models = scene(anywhere)
    rule = {"queries": 6}
    with anywhere.database.read() as session:
        digest = rescoring.difference(session, BOARD, rule).digest
    with anywhere.database.write() as session:
        rescoring.publish(session, BOARD, rule, digest=digest, note="too many", actor="root")
    with anywhere.database.read() as session:
        board = queries.board(session, BOARD)
        assert [row.owner for row in board.rows] == ["bob", "ada"]
        assert board.track.scoring.number == 2
        assert board.track.board_version == f"{board.track.rules_version}/scoring2"
        versions = queries.scorings(session, BOARD)
        assert [(v.scoring.number, v.scoring.queries, v.note) for v in versions] == [
            (1, None, "the track's own rule"),
            (2, 6, "too many"),
        ]
        old = session.get_one(BoardRow, (BOARD, models["bob"], anywhere.version))
        assert old.score == 2.0
        last = session.scalars(select(Event).filter_by(kind="board.rescored")).one()
        assert (last.payload["scoring"], last.payload["note"]) == (2, "too many")
        assert last.payload["rule"] == {"queries": 6, "norm": None, "exclude": []}
    anywhere.settle()
    assert [row.score for row in anywhere.board("model")] == [20.0, 3.0], "later facts follow it"


def test_a_board_that_moved_has_to_be_looked_at_again(anywhere: Any) -> None:
    scene(anywhere)
    with anywhere.database.read() as session:
        digest = rescoring.difference(session, BOARD, {"queries": 6}).digest
    foe = anywhere.entry("untargeted-attack", "baseline")
    anywhere.settle()
    with pytest.raises(Conflict, match="the board has moved since"), anywhere.database.write() as s:
        rescoring.publish(s, BOARD, {"queries": 6}, digest=digest, note="", actor="root")
    assert foe
    with anywhere.database.read() as session:
        assert queries.board(session, BOARD).track.scoring.number == 1


@pytest.mark.parametrize(
    ("rule", "error", "reason"),
    [
        ({"queries": 0}, Invalid, "got 0 queries; .* so 1 to 30 can be counted"),
        ({"queries": 31}, Invalid, "got 31 queries"),
        ({"norm": "l3"}, Invalid, "got the norm 'l3'; wanted one of l0, l1, l2, linf"),
        ({"norm": "linf", "queries": 5}, Invalid, "not both"),
        ({"exclude": ["nope"]}, Invalid, "has no image 'nope'; it has"),
        ({}, Conflict, "scored by this rule already"),
        ({"norm": "l2", "queries": 30}, Conflict, "scored by this rule already"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(
    world: Any, rule: dict[str, Any], error: type[Exception], reason: str
) -> None:
    with world.database.read() as session, pytest.raises(error, match=reason):
        rescoring.difference(session, BOARD, rule)


def test_all_images_cannot_be_excluded(world: Any) -> None:
    from server.plays import samples_of

    ids = list(samples_of(world.tracks["model"]).ids)
    with world.database.read() as session, pytest.raises(Invalid, match="all 4 images"):
        rescoring.difference(session, BOARD, {"exclude": ids})
    with world.database.read() as session, pytest.raises(NotFound, match="there is no track"):
        rescoring.difference(session, "nope", {})


def test_history_keeps_every_score_with_the_rank_it_gave(anywhere: Any) -> None:
    models = scene(anywhere)
    with anywhere.database.read() as session:
        found = queries.history(session, BOARD)
        told = [(row.entry.id, row.state, row.score, row.rank) for row in found.items]
    assert told == [
        (models["bob"], "scored", 2.0, 2),
        (models["ada"], "scored", 3.0, 1),
        *[(models[o], "playing", None, None) for o in sorted(models, key=lambda o: models[o])][
            ::-1
        ],
    ]
    with anywhere.database.read() as session:
        mine = queries.history(session, BOARD, submission=models["ada"], limit=1)
        assert [row.score for row in mine.items] == [3.0]
        rest = queries.history(session, BOARD, submission=models["ada"], after=mine.next)
        assert ([row.score for row in rest.items], rest.next) == ([None], None)
        with pytest.raises(BadRequest, match="wanted the `next` of another page"):
            queries.history(session, BOARD, after="x-y")


def test_an_entry_that_leaves_is_in_the_history(anywhere: Any) -> None:
    models = scene(anywhere)
    with anywhere.database.write() as session:
        lifecycle.move(session, models["ada"], "withdrawn")
        lifecycle.settle(session, anywhere.version)
    with anywhere.database.read() as session:
        found = queries.history(session, BOARD)
        assert {row.entry.id for row in found.items} == {models["bob"]}, "others see it no more"


def test_the_unit_follows_the_norm() -> None:
    track = rules.track(BOARD)
    judged = replace(track, scoring=Scoring(number=2, norm="linf"))
    assert rules.track_view(judged).unit.startswith("Linf distance")
