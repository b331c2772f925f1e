"""server/accounts.py: names that are free, and tokens that are not kept."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from bench.errors import UserError
from server import accounts
from server.db.engine import Database
from server.db.tables import Account, Token
from server.policy import Actor


@pytest.fixture
def token(database: Database) -> str:
    with database.write() as session:
        accounts.create_user(session, "ada")
        return accounts.create_token(session, "ada")


def actor_of(database: Database, text: str) -> Actor | None:
    with database.read() as session:
        return accounts.authenticate(session, text)


def test_a_token_names_its_account_and_is_not_kept(database: Database, token: str) -> None:
    actor = actor_of(database, token)
    assert actor is not None
    assert (actor.name, actor.role, actor.scope) == ("ada", "participant", "submit")
    with database.read() as session:
        stored = session.scalars(select(Token)).one()
    assert token.split("_", 2)[2] not in repr(vars(stored))
    assert len(stored.digest) == 64


@pytest.mark.parametrize("change", ["", "x", "tilt", "tilt_", "tilt__", "other"])
def test_a_token_that_differs_is_nobodys(database: Database, token: str, change: str) -> None:
    wrong = token[:-1] + ("a" if token[-1] != "a" else "b") if change == "other" else change
    assert actor_of(database, wrong) is None


def test_a_revoked_token_is_nobodys(database: Database, token: str) -> None:
    with database.write() as session:
        assert accounts.revoke_token(session, token) is True
        assert accounts.revoke_token(session, token) is False
    assert actor_of(database, token) is None


def test_an_expired_token_is_nobodys(database: Database, token: str) -> None:
    with database.write() as session:
        session.execute(update(Token).values(expires_at=1.0))
    assert actor_of(database, token) is None


def test_a_disabled_account_has_no_tokens(database: Database, token: str) -> None:
    with database.write() as session:
        session.execute(update(Account).values(disabled_at=1.0))
    assert actor_of(database, token) is None


@pytest.mark.parametrize(
    "name", ["", " ada", "a" * 41, "ada\n", "<b>", "baseline", "command line", "anonymous"]
)
def test_a_bad_or_reserved_name_is_refused(sqlite: Database, name: str) -> None:
    with sqlite.write() as session, pytest.raises(UserError, match="account"):
        accounts.create_user(session, name)


def test_a_name_is_given_once(sqlite: Database) -> None:
    with sqlite.write() as session:
        accounts.create_user(session, "ada")
        with pytest.raises(UserError, match="exists already"):
            accounts.create_user(session, "ada")


def test_mistakes_name_what_is_known(sqlite: Database) -> None:
    with sqlite.write() as session:
        with pytest.raises(UserError, match="create-user bob"):
            accounts.create_token(session, "bob")
        with pytest.raises(UserError, match="participant, operator"):
            accounts.create_user(session, "bob", role="king")
        accounts.create_user(session, "bob")
        with pytest.raises(UserError, match="read, submit, operate"):
            accounts.create_token(session, "bob", scope="all")
        with pytest.raises(UserError, match="needs the role operator"):
            accounts.create_token(session, "bob", scope="operate")
        with pytest.raises(UserError, match="positive"):
            accounts.create_token(session, "bob", expires_days=0)
        with pytest.raises(UserError, match="gets no tokens"):
            accounts.create_token(session, accounts.baseline_account(session))
