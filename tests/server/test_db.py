"""server/db: engines, migrations and the two special writes, on both databases."""

from __future__ import annotations

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, select
from sqlalchemy.exc import IntegrityError

from bench.errors import UserError
from server import accounts
from server.db import migrations
from server.db.engine import Database, db_now, normalise
from server.db.tables import Account, Base, Event, Submission, Token
from server.db.writes import append_event, insert_ignore, upsert


def test_the_migrations_give_exactly_the_tables(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_migrations_go_down_to_nothing_and_up_again(database: Database) -> None:
    assert migrations.current(database) == "0004"
    migrations.downgrade(database, "base")
    assert inspect(database.engine).get_table_names() == ["alembic_version"]
    migrations.upgrade(database)
    assert set(Base.metadata.tables) <= set(inspect(database.engine).get_table_names())


def test_tokens_of_before_there_were_sessions_stay_good(database: Database) -> None:
    with database.write() as session:
        accounts.create_user(session, "ada")
        text = accounts.create_token(session, "ada")
    migrations.downgrade(database, "0002")
    migrations.upgrade(database)
    with database.read() as session:
        actor = accounts.authenticate(session, text)
        assert actor is not None
        assert (actor.name, actor.party) == ("ada", actor.account_id)
        assert [(row.kind, row.label) for row in session.scalars(select(Token))] == [("api", "")]


def test_upgrading_twice_at_once_is_harmless(database: Database) -> None:
    migrations.downgrade(database, "base")
    errors: list[Exception] = []

    def upgrade() -> None:
        try:
            migrations.upgrade(database)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=upgrade) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert migrations.current(database) == "0004"


def test_sqlite_is_durable_and_checks_references(sqlite: Database) -> None:
    with sqlite.engine.connect() as connection:
        pragma = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragma == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def submission(account_id: str, state: str = "accepted") -> Submission:
    return Submission(
        account_id=account_id, name="x", track="t", kind="model", source="zoo", state=state
    )


def add(database: Database, *rows: Base) -> None:
    with database.write() as session:
        session.add_all(rows)


def test_a_reference_to_nothing_is_refused(database: Database) -> None:
    with pytest.raises(IntegrityError):
        add(database, submission("nobody"))


def test_an_unknown_state_is_refused_by_the_database(database: Database) -> None:
    add(database, Account(id="1", name="ada", role="participant"))
    add(database, submission("1"))
    with pytest.raises(IntegrityError):
        add(database, submission("1", state="nearly"))


def test_a_write_that_raises_leaves_nothing(database: Database) -> None:
    ada, impostor = (Account(name="ada", role="participant") for _ in range(2))
    with pytest.raises(IntegrityError):
        add(database, ada, impostor)
    with database.read() as session:
        assert session.scalars(select(Account)).all() == []


def test_the_database_clock_moves_within_a_transaction(database: Database) -> None:
    with database.write() as session:
        first = session.execute(select(db_now())).scalar_one()
        while session.execute(select(db_now())).scalar_one() == first:
            pass
        assert first > 1.7e9


def test_event_ids_have_no_gap_when_writers_race_and_fail(database: Database) -> None:
    def write(number: int) -> None:
        try:
            with database.write() as session:
                append_event(session, "test", payload={"number": number})
                if number % 3 == 0:
                    raise RuntimeError
        except RuntimeError:
            pass

    threads = [threading.Thread(target=write, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert session.scalars(select(Event.id).order_by(Event.id)).all() == list(range(1, 9))


def test_insert_ignore_counts_only_what_is_new(database: Database) -> None:
    row = {"id": "1", "name": "ada", "role": "participant", "created_at": 0.0}
    with database.write() as session:
        assert insert_ignore(session, Account, [row]) == 1
        assert insert_ignore(session, Account, [row, {**row, "id": "2", "name": "bob"}]) == 1


def test_upsert_overwrites_by_primary_key(database: Database) -> None:
    row = {"id": "1", "name": "ada", "role": "participant", "created_at": 0.0}
    with database.write() as session:
        upsert(session, Account, row)
        upsert(session, Account, {**row, "name": "grace"})
        assert session.scalars(select(Account.name)).all() == ["grace"]


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y", "no url"])
def test_a_database_that_cannot_serve_is_refused_with_a_mend(url: str) -> None:
    with pytest.raises(UserError, match=r"name a file|use sqlite or postgresql|write sqlite"):
        normalise(url)
