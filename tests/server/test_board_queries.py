"""server/db/boards.py: what is shown of a board, chosen by the database, on both of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, insert

from bench.score import ranks
from bench.tracks.types import Track
from server import accounts, rules, scoring
from server.db import queries
from server.db.boards import board_of
from server.db.engine import Database
from server.db.tables import Account, BoardRow, Submission
from server.errors import BadRequest
from server.schemas import BoardQuery, BoardView

TRACK = "mnist5k-robust-model"
SCORES = [3.0, None, 1.5, 3.0, 0.0, None, 2.25, 5.0]
"""Of eight entries, in the order of their acceptance; intervals are 0.4 to either side."""


@pytest.fixture
def track(sqlite: Database) -> Track:
    with sqlite.read() as session:
        return scoring.current(session, rules.track(TRACK))


def fill(database: Database, track: Track, scores: list[float | None]) -> list[str]:
    """Rows with these scores, as `standings` stores them; the names of the entries."""
    names = [f"{'Éa' if i % 2 else 'b_'}%entry {i:05d}" for i in range(len(scores))]
    with database.write() as session:
        owners = [accounts.create_user(session, name).id for name in ("ada", "grace")]
    with database.write() as session:
        for i, score in enumerate(scores):
            entry = f"e{i:05d}"
            bounds = [None, None] if score is None else [score - 0.4, score + 0.4]
            session.execute(insert(Submission).values(
                id=entry, account_id=owners[i % 2], name=names[i], track=track.name, kind="model",
                source="zoo" if i == 2 else "image", state="accepted", accepted_at=100.0 + i,
            ))  # fmt: skip
            accuracy = None if score is None else 0.5 + i / 100
            data: dict[str, Any] = {
                "score": score, "interval": None if score is None else bounds,
                "clean_accuracy": accuracy, "worst_opponent": None, "why": None,
                "mean_queries": 10.0 * (i % 3), "failed_samples": 0, "matches_done": 1,
                "matches_expected": 1, "matches": [], "reason": None, "isolated": i != 4,
                "state": "scored" if score is not None else ("failed" if i == 5 else "playing"),
            }  # fmt: skip
            session.execute(insert(BoardRow).values(
                board=track.name, submission_id=entry, rules_version=rules.board_version(track),
                score=score, state=data["state"], opponents="", data=data, inputs_hash="",
                lower=bounds[0], upper=bounds[1], clean_accuracy=accuracy,
                mean_queries=data["mean_queries"], isolated=data["isolated"], updated_at=500.0 - i,
            ))  # fmt: skip
    return names


@pytest.fixture
def ask(database: Database, track: Track) -> Callable[..., BoardView]:
    """The board of eight entries as asked for."""
    fill(database, track, SCORES)

    def asked(**query: Any) -> BoardView:
        with database.read() as session:
            return board_of(session, track, BoardQuery(**query))

    return asked


def entries(view: BoardView) -> list[int]:
    return [int(row.entry.id[1:]) for row in view.rows]


def test_rows_come_by_rank_with_ties_and_the_unscored_last(ask: Callable[..., BoardView]) -> None:
    view = ask()
    assert entries(view) == [7, 0, 3, 6, 2, 4, 1, 5]
    assert [row.rank for row in view.rows] == [1, 2, 2, 4, 5, 6, None, None]
    separable = [row.separable for row in view.rows]
    assert separable == [True, False, False, False, True, None, None, None]
    assert (view.entries, view.scored, view.found) == (8, 6, 8)
    assert view.leader is not None
    assert view.leader.id == "e00007"
    assert view.isolated is False


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({"sort": "entry"}, [0, 2, 4, 6]),
        ({"sort": "entry", "order": "desc"}, [6, 4, 2, 0]),
        ({"sort": "score"}, [4, 2, 6, 0]),
        ({"sort": "score", "order": "desc"}, [0, 6, 2, 4]),
        ({"sort": "accuracy", "order": "desc"}, [6, 4, 2, 0]),
        ({"sort": "queries"}, [0, 6, 4, 2]),
        ({"sort": "updated"}, [6, 4, 2, 0]),
        ({"sort": "opponent"}, [0, 2, 4, 6]),
    ],
)
def test_rows_are_sorted_by_any_column(
    ask: Callable[..., BoardView], query: dict[str, str], wanted: list[int]
) -> None:
    """The entries of one owner: sorting of letters beyond ASCII is the database's own."""
    assert entries(ask(q="ada", **query)) == wanted


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_what_is_missing_comes_last_whichever_way(
    ask: Callable[..., BoardView], order: str
) -> None:
    assert entries(ask(sort="accuracy", order=order))[-2:] == [1, 5]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({"q": "GRACE"}, {1, 3, 5, 7}),
        ({"q": "entry 00003"}, {3}),
        ({"q": "%entry"}, set(range(8))),
        ({"q": "b_%"}, {0, 2, 4, 6}),
        ({"q": "a_"}, set()),
        ({"who": "baselines"}, {2}),
        ({"who": "participants"}, {0, 1, 3, 4, 5, 6, 7}),
        ({"state": "failed"}, {5}),
        ({"state": "playing", "q": "grace"}, {1}),
    ],
)
def test_filters_keep_the_ranks_of_the_whole_board(
    ask: Callable[..., BoardView], query: dict[str, str], wanted: set[int]
) -> None:
    view = ask(**query)
    assert set(entries(view)) == wanted
    assert view.found == len(wanted)
    whole = {row.entry.id: (row.rank, row.separable) for row in ask().rows}
    assert all(whole[row.entry.id] == (row.rank, row.separable) for row in view.rows)
    assert (view.entries, view.scored, view.leader) == (8, 6, ask().leader)


@pytest.mark.parametrize("sort", ["rank", "entry", "score", "accuracy", "queries", "updated"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_put_together_are_the_whole_and_lead_back(
    ask: Callable[..., BoardView], sort: str, order: str
) -> None:
    whole = entries(ask(sort=sort, order=order))
    pages, page = [], None
    while True:
        view = ask(sort=sort, order=order, limit=3, page=page)
        pages.append(entries(view))
        assert view.version != ask(sort=sort, order=order).version
        page = view.next
        if page is None:
            break
    assert [entry for each in pages for entry in each] == whole
    assert [len(each) for each in pages] == [3, 3, 2]
    back = ask(sort=sort, order=order, limit=3, page=view.previous)
    assert entries(back) == pages[1]
    first = ask(sort=sort, order=order, limit=3, page=back.previous)
    assert entries(first) == pages[0]
    assert first.previous is None


@pytest.mark.parametrize("page", ["", ">", ">x:1", "nonsense", ">i:0~i:1", "\N{SNOWMAN}" * 30])
def test_a_page_that_nobody_gave_is_refused(ask: Callable[..., BoardView], page: str) -> None:
    if page in ("", ">"):  # the start
        assert entries(ask(page=page, limit=2)) == entries(ask(limit=2))
        return
    with pytest.raises(BadRequest, match="wanted the `next` or `previous`"):
        ask(page=page)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.none() | st.sampled_from([0.0, 0.5, 1.0, 2.0]), max_size=12))
def test_ranks_are_those_of_the_scoring(
    sqlite: Database, track: Track, scores: list[float | None]
) -> None:
    with sqlite.write() as session:
        for table in (BoardRow, Submission, Account):
            session.execute(delete(table))
    fill(sqlite, track, scores)
    with sqlite.read() as session:
        rows = board_of(session, track).rows
    named = {f"e{i:05d}": score for i, score in enumerate(scores)}
    wanted = ranks(named, higher_is_better=track.higher_is_better)
    assert {row.entry.id: row.rank for row in rows} == wanted


def test_a_page_of_a_large_board_takes_few_statements(sqlite: Database, track: Track) -> None:
    fill(sqlite, track, [float(i % 97) for i in range(600)])
    said: list[str] = []
    event.listen(sqlite.engine, "before_cursor_execute", lambda *call: said.append(str(call[2])))
    with sqlite.read() as session:
        view = board_of(session, track, BoardQuery(limit=100, sort="entry"))
        queries.pictures(session, view.rows)
    assert len(view.rows) == 100
    assert sum(text.lstrip().upper().startswith("SELECT") for text in said) <= 12
