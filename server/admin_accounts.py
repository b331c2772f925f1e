"""`tiltyard admin`: accounts, tokens, invitations, organisers and the audit log."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from bench.cli import Json, print_json, print_table

from .admin import ACTOR, DatabaseUrl, DataDir, opened

app = typer.Typer()

Name = Annotated[str, typer.Argument(help="The account.")]
ChallengeName = Annotated[str, typer.Argument(help="A data set with tracks, such as mnist5k.")]


class RoleName(StrEnum):
    """Roles of accounts."""

    participant = "participant"
    operator = "operator"


class ScopeName(StrEnum):
    """What a token may do, each including those before it."""

    read = "read"
    submit = "submit"
    operate = "operate"


@app.command("create-user")
def create_user(
    name: Annotated[str, typer.Argument(help="1 to 40 letters, digits, dots, dashes, spaces.")],
    role: Annotated[RoleName, typer.Option(help="What the account may do.")] = RoleName.participant,
    password: Annotated[
        bool, typer.Option("--password", help="Ask for a password to sign in with.")
    ] = False,
    data_dir: DataDir = None,
    database: DatabaseUrl = None,
) -> None:
    """Create an account."""
    from . import accounts, signing

    with opened(data_dir, database) as place:
        kept = _asked() if password else None
        with place.database.write() as session:
            account = accounts.create_user(session, name, role.value)
            if kept is not None:
                signing.set_password(session, account, kept, actor=ACTOR)
    typer.echo(f"created {name}; next: tiltyard admin create-token {name}")


@app.command("set-password")
def set_password(name: Name, data_dir: DataDir = None, database: DatabaseUrl = None) -> None:
    """Give an account another password; browsers that are signed in are signed out."""
    from . import accounts, signing

    with opened(data_dir, database) as place:
        kept = _asked()
        with place.database.write() as session:
            signing.set_password(session, accounts.find_user(session, name), kept, actor=ACTOR)
    typer.echo(f"{name} has another password")


@app.command("create-token")
def create_token(
    name: Name,
    scope: Annotated[ScopeName, typer.Option(help="What the token may do.")] = ScopeName.submit,
    days: Annotated[float, typer.Option(help="How long it is good; 0: for ever.")] = 90.0,
    data_dir: DataDir = None,
    database: DatabaseUrl = None,
) -> None:
    """Make a token. It is printed once and not kept."""
    from . import accounts

    with opened(data_dir, database) as place, place.database.write() as session:
        text = accounts.create_token(session, name, scope.value, days or None)
    typer.echo(text)


@app.command("invite")
def invite(
    days: Annotated[float, typer.Option(help="How long the code is good.")] = 14.0,
    data_dir: DataDir = None,
    database: DatabaseUrl = None,
) -> None:
    """Make a code with which one person may sign up. It is printed once and not kept."""
    from . import invitations

    with opened(data_dir, database) as place, place.database.write() as session:
        _, code = invitations.create(session, ACTOR, days=days)
    typer.echo(code)


@app.command("users")
def users(data_dir: DataDir = None, database: DatabaseUrl = None, as_json: Json = False) -> None:
    """List accounts and teams."""
    from .db import people

    with opened(data_dir, database) as place, place.database.read() as session:
        found, after = [], None
        while True:
            page = people.accounts(session, after=after, limit=200)
            found += page.items
            if (after := page.next) is None:
                break
    if as_json:
        print_json([view.model_dump(mode="json") for view in found])
        return
    print_table(
        ["name", "role", "team", "organises", "state"],
        (
            [
                view.name,
                view.role,
                view.team.name if view.team is not None else "-",
                ", ".join(view.organises) or "-",
                "closed" if view.disabled else "open",
            ]
            for view in found
        ),
    )


@app.command("disable-user")
def disable_user(name: Name, data_dir: DataDir = None, database: DatabaseUrl = None) -> None:
    """Close an account: its tokens are good no more. Its entries stay."""
    from . import accounts

    with opened(data_dir, database) as place, place.database.write() as session:
        accounts.disable(session, name, ACTOR)
    typer.echo(f"{name} is closed")


@app.command("enable-user")
def enable_user(name: Name, data_dir: DataDir = None, database: DatabaseUrl = None) -> None:
    """Open a closed account again."""
    from . import accounts

    with opened(data_dir, database) as place, place.database.write() as session:
        accounts.enable(session, name, ACTOR)
    typer.echo(f"{name} is open")


@app.command("set-organiser")
def set_organiser(
    name: Name,
    challenge: ChallengeName,
    remove: Annotated[bool, typer.Option("--remove", help="No more.")] = False,
    data_dir: DataDir = None,
    database: DatabaseUrl = None,
) -> None:
    """Have an account organise a challenge: its rounds, its scores, opening and closing it."""
    from . import accounts, rules

    with opened(data_dir, database) as place, place.database.write() as session:
        rules.of_challenge(challenge)
        accounts.set_organiser(session, name, challenge, ACTOR, organises=not remove)
    typer.echo(f"{name} organises {challenge}{' no more' if remove else ''}")


@app.command("audit")
def audit(
    by: Annotated[str | None, typer.Option(help="Of this actor alone.")] = None,
    kind: Annotated[str | None, typer.Option(help="Of this kind alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50,
    data_dir: DataDir = None,
    database: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Who did what, newest first."""
    from .db import people

    with opened(data_dir, database) as place, place.database.read() as session:
        found = people.audit(session, by=by, kind=kind, limit=limit).items
    if as_json:
        print_json([view.model_dump(mode="json") for view in found])
        return
    print_table(
        ["when", "who", "what", "about"],
        (
            [
                f"{view.created_at:%Y-%m-%d %H:%M:%S}",
                view.actor,
                view.kind,
                " ".join(
                    part
                    for part in (view.track, view.submission_id, json.dumps(view.payload))
                    if part
                ),
            ]
            for view in found
        ),
    )


def _asked() -> str:
    """The hash of a password that somebody types twice."""
    from . import passwords

    return passwords.hashed(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
