"""`tiltyard admin`: challenges, rounds and scorings, from the machine that the server runs on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import Json, print_json, print_table

from .admin import ACTOR, DatabaseUrl, DataDir, opened

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from .db.tables import Round
    from .policy import Actor
    from .schemas import RescoreView, RoundView

ChallengeName = Annotated[str, typer.Argument(help="A data set with tracks, such as mnist5k.")]
RoundId = Annotated[str, typer.Argument(help="Id of a round; `tiltyard admin rounds` lists them.")]

app = typer.Typer()


@app.command("open-challenge")
def open_challenge(
    name: ChallengeName, data_dir: DataDir = None, database: DatabaseUrl = None
) -> None:
    """Take entries for a challenge, and enter its quick baselines."""
    from . import challenges, lifecycle

    with opened(data_dir, database) as place, place.database.write() as session:
        challenges.opened(session, name, ACTOR)
        fresh = lifecycle.enter_baselines(session)
    typer.echo(f"{name} is open; {len(fresh)} baselines are new")


@app.command("close-challenge")
def close_challenge(
    name: ChallengeName, data_dir: DataDir = None, database: DatabaseUrl = None
) -> None:
    """Take no more entries for a challenge; its boards stay."""
    from . import challenges

    with opened(data_dir, database) as place, place.database.write() as session:
        challenges.closed(session, name, ACTOR)
    typer.echo(f"{name} is closed")


@app.command()
def rescore(
    track: Annotated[str, typer.Argument(help="NAME of a track.")],
    queries: Annotated[
        int | None, typer.Option(help="Count only what was known after so many queries.")
    ] = None,
    norm: Annotated[str | None, typer.Option(help="l0, l1, l2 or linf.")] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Id of an image that counts for nobody.")
    ] = None,
    note: Annotated[str, typer.Option(help="Why, for everybody to read.")] = "",
    publish: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="Publish the difference of this digest."),
    ] = None,
    data_dir: DataDir = None,
    database: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Score a board by another rule, from its facts. First it shows the difference."""
    from . import rescoring

    rule = {"queries": queries, "norm": norm, "exclude": exclude or []}
    with opened(data_dir, database) as place:
        if publish is None:
            with place.database.read() as session:
                found = rescoring.difference(session, track, rule)
                view = rescoring.view(session, found, published=False)
        else:
            with place.database.write() as session:
                found = rescoring.publish(
                    session, track, rule, digest=publish, note=note, actor=ACTOR
                )
                view = rescoring.view(session, found, published=True)
    if as_json:
        print_json(view.model_dump(mode="json"))
        return
    _print_difference(view)


@app.command("replay")
def replay(
    match: Annotated[str, typer.Argument(help="Id of a match, as in its page's address.")],
    data_dir: DataDir = None,
    database: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Find the verdicts of a match again, from its ledger and its stored images."""
    from . import replaying

    with opened(data_dir, database) as place, place.database.read() as session:
        found = replaying.replay(session, place.store, match)
    if as_json:
        print_json(asdict(found))
    else:
        for line in found.wrong:
            typer.echo(line)
        typer.echo(
            f"{found.questions} questions about {found.images} images, {found.asked_again} "
            f"adversarials asked again: {len(found.wrong) or 'no'} differences from the record"
        )
    if found.wrong:
        raise typer.Exit(1)


@app.command("freeze-round")
def freeze_round(
    challenge: ChallengeName,
    name: Annotated[str, typer.Option(help="Of the round, for people.")],
    images: Annotated[
        int | None, typer.Option(min=1, help="Hidden images; 100, or all of the file.")
    ] = None,
    images_file: Annotated[
        Path | None,
        typer.Option(help=".npz of your own: images uint8 (N,H,W,C), labels (N,)."),
    ] = None,
    best: Annotated[
        int | None, typer.Option(min=1, help="Participants of each track; all by default.")
    ] = None,
    data_dir: DataDir = None,
    database: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Freeze the entries of a challenge and play each against each on hidden images."""
    from . import rounds
    from .db import queries

    with opened(data_dir, database) as place, place.database.write() as session:
        row = rounds.freeze(
            session,
            place.store,
            challenge,
            name,
            actor=ACTOR,
            images=images,
            file=images_file,
            best=best,
        )
        view = queries.round_of(session, row.id, _operator())
    _print_round(view, as_json)


@app.command("rounds")
def list_rounds(
    challenge: ChallengeName,
    data_dir: DataDir = None,
    database: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """List the rounds of a challenge and how far they are."""
    from .db import queries

    with opened(data_dir, database) as place, place.database.read() as session:
        found = queries.rounds(session, challenge, _operator())
    if as_json:
        print_json([view.model_dump(mode="json") for view in found])
        return
    print_table(
        ["id", "name", "state", "entries", "images", "matches", "done", "failed", "stopped"],
        (
            [
                view.id,
                view.name,
                view.state,
                str(len(view.entries)),
                str(view.images),
                str(view.matches),
                str(view.matches_done),
                str(view.matches_failed),
                str(view.matches_stopped),
            ]
            for view in found
        ),
    )


@app.command("publish-round")
def publish_round(
    round_id: RoundId, data_dir: DataDir = None, database: DatabaseUrl = None, as_json: Json = False
) -> None:
    """Show the boards of a round that is over to everybody, for good."""
    from . import rounds

    _end_round(rounds.publish, round_id, data_dir, database, as_json)


@app.command("drop-round")
def drop_round(
    round_id: RoundId, data_dir: DataDir = None, database: DatabaseUrl = None, as_json: Json = False
) -> None:
    """Give up a round that was not published."""
    from . import rounds

    _end_round(rounds.drop, round_id, data_dir, database, as_json)


def _end_round(
    how: Callable[[Session, str, str], Round],
    round_id: str,
    data_dir: Path | None,
    url: str | None,
    as_json: bool,
) -> None:
    from .db import queries

    with opened(data_dir, url) as place, place.database.write() as session:
        how(session, round_id, ACTOR)
        view = queries.round_of(session, round_id, _operator())
    _print_round(view, as_json)


def _print_difference(view: RescoreView) -> None:
    moved = [c for c in view.changes if c.moved]
    if moved:
        print_table(
            ["entry", "owner", "score", "becomes", "rank", "becomes"],
            (
                [
                    c.entry.name,
                    c.entry.owner,
                    _number(c.old_score),
                    _number(c.new_score),
                    str(c.old_rank or "-"),
                    str(c.new_rank or "-"),
                ]
                for c in moved
            ),
            title=f"{view.track}: scoring {view.proposed.number}",
        )
    typer.echo(f"{len(moved)} of {len(view.changes)} entries change")
    if view.published:
        typer.echo(f"published as scoring {view.proposed.number}")
    else:
        typer.echo(f"nothing was changed; to publish it add: --publish {view.digest}")


def _number(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"


def _print_round(view: RoundView, as_json: bool) -> None:
    if as_json:
        print_json(view.model_dump(mode="json"))
        return
    typer.echo(
        f"round {view.id} ({view.name}) is {view.state}: {len(view.entries)} entries, "
        f"{view.images} images, {view.matches_done} of {view.matches} matches done"
    )
    typer.echo(f"digest {view.digest}")


def _operator() -> Actor:
    from .policy import Actor

    return Actor(account_id=None, name=ACTOR, role="operator", scope="operate")
