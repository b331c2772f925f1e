"""`tiltyard admin` for accounts, and `tiltyard token`, as operators and participants type them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from typer.testing import CliRunner, Result

import server.cli  # noqa: F401 - adds the commands of the server
from bench.cli import app
from bench.errors import UserError
from server import accounts, settings
from server.app import create_app
from server.db.engine import Database
from server.errors import Invalid, answered

PASSWORD = "four words that I made"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "server"


def tiltyard(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=typed)


def admin(folder: Path, *arguments: str, typed: str | None = None) -> str:
    done = tiltyard("admin", *arguments, "--data-dir", str(folder), typed=typed)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def test_an_account_goes_from_its_making_to_its_end(
    folder: Path, serve: Callable[[FastAPI], str]
) -> None:
    admin(folder, "create-user", "ada", "--password", typed=f"{PASSWORD}\n{PASSWORD}\n")
    admin(folder, "set-organiser", "ada", "mnist5k")
    listed = json.loads(admin(folder, "users", "--json"))
    assert [(each["name"], each["role"], each["organises"]) for each in listed] == [
        ("ada", "participant", ["mnist5k"])
    ]
    chosen = settings.load(data_dir=folder, workers=0, sandbox="process", baselines="none")
    address = serve(create_app(chosen))

    def token(password: str) -> Result:
        return tiltyard("token", "ada", "--server", address, typed=f"{password}\n")

    made = token(PASSWORD)
    assert made.exit_code == 0, made.output
    assert made.stdout.strip().startswith("tilt_")
    assert PASSWORD not in made.output
    admin(folder, "set-password", "ada", typed=f"{PASSWORD} 2\n{PASSWORD} 2\n")
    wrong = token(PASSWORD)
    assert isinstance(wrong.exception, UserError)
    assert "no account with this name and password" in str(wrong.exception)
    assert token(f"{PASSWORD} 2").exit_code == 0
    admin(folder, "disable-user", "ada")
    assert token(f"{PASSWORD} 2").exit_code != 0
    assert "closed" in admin(folder, "users")
    admin(folder, "enable-user", "ada")
    admin(folder, "set-organiser", "ada", "mnist5k", "--remove")
    told = [each["kind"] for each in json.loads(admin(folder, "audit", "--json"))]
    assert told[:2] == ["organiser.removed", "account.enabled"]
    assert "token.created" in told
    only = json.loads(admin(folder, "audit", "--by", "ada", "--limit", "1", "--json"))
    assert [each["actor"] for each in only] == ["ada"]


def test_an_invitation_is_printed_once(folder: Path) -> None:
    first, second = admin(folder, "invite"), admin(folder, "invite", "--days", "1")
    assert first.startswith("tilti_")
    assert first != second
    assert first.strip() not in admin(folder, "audit", "--json")


@pytest.mark.parametrize(
    ("arguments", "typed", "message"),
    [
        (("create-user", "ada", "--password"), "short\nshort\n", "wanted 12 to 200"),
        (("set-password", "nobody"), f"{PASSWORD}\n{PASSWORD}\n", "no account 'nobody'"),
        (("set-organiser", "nobody", "mnist5k"), None, "no account 'nobody'"),
        (("set-organiser", "nobody", "none"), None, "no challenge 'none'"),
        (("disable-user", "nobody"), None, "no account 'nobody'"),
        (("invite", "--days", "-1"), None, "wanted more than 0"),
        (("create-token", "nobody"), None, "create it with"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_made(
    folder: Path, arguments: tuple[str, ...], typed: str | None, message: str
) -> None:
    done = tiltyard("admin", *arguments, "--data-dir", str(folder), typed=typed)
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)
    assert json.loads(admin(folder, "users", "--json")) == []


def test_a_name_that_is_taken_at_the_same_moment_is_told_so(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.write() as session:
        accounts.create_user(session, "ada")
    monkeypatch.setattr(accounts, "require_name", lambda *_: None)
    with database.write() as session:
        with pytest.raises(Invalid, match="exists already"), answered():
            accounts.make(session, "ada")
        assert accounts.make(session, "bob").name == "bob", "the transaction goes on"
