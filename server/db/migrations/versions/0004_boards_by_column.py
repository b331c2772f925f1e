"""Boards are sorted and filtered by the database: what they are sorted by gets columns.

A start of the server computes every row again (the format of rows is another), and so fills them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NUMBERS = ("lower", "upper", "clean_accuracy", "mean_queries")


def upgrade() -> None:
    with op.batch_alter_table("board_row") as table:
        for name in _NUMBERS:
            table.add_column(sa.Column(name, sa.Double(), nullable=True))
        table.add_column(sa.Column("worst_id", sa.String(), nullable=True))
        table.add_column(
            sa.Column("isolated", sa.Boolean(), nullable=False, server_default=sa.true())
        )
        table.create_foreign_key(op.f("fk_board_row_worst_id"), "submission", ["worst_id"], ["id"])


def downgrade() -> None:
    with op.batch_alter_table("board_row") as table:
        table.drop_constraint(op.f("fk_board_row_worst_id"), type_="foreignkey")
        for name in ("isolated", "worst_id", *reversed(_NUMBERS)):
            table.drop_column(name)
