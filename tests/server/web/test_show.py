"""The heat table of a board, from matches alone."""

from __future__ import annotations

from datetime import UTC, datetime

from server.schemas import EntryRef, JobState, Kind, MatchRef
from server.web import show
from server.web.render import when

NOON = datetime(2026, 3, 4, 12, 5, tzinfo=UTC)


def ref(name: str, *, attack: bool = False, baseline: bool = False) -> EntryRef:
    kind: Kind = "untargeted-attack" if attack else "model"
    return EntryRef(id=name, name=name, owner="ada", kind=kind, track="any", baseline=baseline)


def match(
    name: str, model: EntryRef, attack: EntryRef, state: JobState, median: float | None = None
) -> MatchRef:
    return MatchRef(
        id=name,
        model=model,
        attack=attack,
        dataset="digits",
        state=state,
        reason=None,
        isolated=True,
        median_distance=median,
        samples=8,
        created_at=NOON,
        finished_at=NOON,
    )


def test_participants_come_before_baselines_on_both_sides() -> None:
    matches = [
        match("1", ref("zoo", baseline=True), ref("walk", attack=True, baseline=True), "queued"),
        match("2", ref("mine"), ref("surf", attack=True), "queued"),
    ]
    table = show.matrix(matches)
    assert [name for name, _ in table.columns] == ["surf", "walk"]
    assert [name for name, _, _ in table.rows] == ["mine", "zoo"]


def test_a_cell_says_what_became_of_its_match() -> None:
    model = ref("m")
    states: list[tuple[JobState, float | None, str]] = [
        ("succeeded", 1.234, "1.23"),
        ("succeeded", None, "inf"),
        ("queued", None, "waiting"),
        ("running", None, "playing"),
        ("failed_user", None, "failed"),
    ]
    matches = [
        match(str(i), model, ref(f"a{i}", attack=True), state, median)
        for i, (state, median, _) in enumerate(states)
    ]
    ((_, _, cells),) = show.matrix(matches).rows
    assert [cell.text for cell, _ in cells] == [text for _, _, text in states]
    assert [cell.link for cell, _ in cells] == [f"/matches/{i}" for i in range(5)]
    assert [shade is None for _, shade in cells] == [False, False, True, True, True]


def test_a_pair_that_never_met_has_an_empty_cell() -> None:
    table = show.matrix(
        [
            match("1", ref("a"), ref("x", attack=True), "queued"),
            match("2", ref("b"), ref("y", attack=True), "queued"),
        ]
    )
    assert [[cell.text for cell, _ in cells] for _, _, cells in table.rows] == [
        ["waiting", "–"],
        ["–", "waiting"],
    ]


def test_of_two_matches_of_a_pair_the_newest_counts() -> None:
    pair = (ref("m"), ref("a", attack=True))
    newest_first = [match("new", *pair, "succeeded", 2.0), match("old", *pair, "succeeded", 9.0)]
    ((_, _, ((cell, _),)),) = show.matrix(newest_first).rows
    assert (cell.text, cell.link) == ("2.00", "/matches/new")


def test_moments_are_printed_in_utc() -> None:
    assert when(NOON) == "2026-03-04 12:05"
