"""Run by Alembic: migrates on the connection that ``upgrade`` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from server.db.tables import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    transactional_ddl=False,
)
context.run_migrations()
