"""server/accounts.py: tokens that are not kept, and who may do what."""

from __future__ import annotations

from typing import get_args

import pytest
from sqlalchemy import select, update

from bench.errors import UserError
from server import accounts
from server.accounts import ANONYMOUS, Action, Actor, can
from server.db.engine import Database
from server.db.tables import Account, Token


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


@pytest.mark.parametrize("name", ["", " ada", "a" * 41, "ada\n", "<b>", "baseline"])
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


OWNER = Actor("1", "ada", "participant", "submit")
READER = Actor("1", "ada", "participant", "read")
OTHER = Actor("2", "bob", "participant", "submit")
OPERATOR = Actor("3", "root", "operator", "operate")
MODEST = Actor("3", "root", "operator", "submit")
WHO = {
    "anonymous": ANONYMOUS,
    "owner": OWNER,
    "reader": READER,
    "other": OTHER,
    "operator": OPERATOR,
    "modest": MODEST,
}
MATRIX: dict[Action, set[str]] = {
    "public.read": set(WHO),
    "upload.create": {"owner", "other", "operator", "modest"},
    "upload.read": {"owner", "operator"},
    "upload.write": {"owner"},
    "submission.create": {"owner", "other", "operator", "modest"},
    "submission.list": set(WHO) - {"anonymous"},
    "submission.read": {"owner", "reader", "operator"},
    "submission.cancel": {"owner", "operator"},
    "submission.withdraw": {"owner", "operator"},
    "submission.rerun": {"owner", "operator"},
    "submission.logs": {"owner", "reader", "operator"},
    "challenge.manage": {"operator"},
    "board.rescore": {"operator"},
    "round.read": {"operator"},
    "round.manage": {"operator"},
}


@pytest.mark.parametrize("action", get_args(Action))
def test_only_these_may_do_this_to_something_of_adas(action: Action) -> None:
    assert {name for name, actor in WHO.items() if can(actor, action, "1")} == MATRIX[action]
