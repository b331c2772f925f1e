"""The challenge in full: targeted attacks, scoring versions, history of boards, rounds"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_KINDS = "kind IN ('model', 'untargeted-attack')"
_ALL_KINDS = "kind IN ('model', 'untargeted-attack', 'targeted-attack')"
_STATES = "state IN ('playing', 'published', 'dropped')"


def upgrade() -> None:
    op.create_table(
        "challenge",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("closed_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_challenge")),
    )
    # Servers of before had one challenge, and it was open.
    op.execute(
        "INSERT INTO challenge (name, opened_at) "
        "SELECT 'mnist5k', MIN(created_at) FROM submission HAVING COUNT(*) > 0"
    )
    op.create_table(
        "scoring",
        sa.Column("track", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("rule", sa.JSON(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("track", "number", name=op.f("pk_scoring")),
    )
    op.create_table(
        "board_history",
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("submission_id", sa.String(), nullable=False),
        sa.Column("board", sa.String(), nullable=False),
        sa.Column("rules_version", sa.String(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["event.id"], name=op.f("fk_board_history_event_id")),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submission.id"], name=op.f("fk_board_history_submission_id")
        ),
        sa.PrimaryKeyConstraint("event_id", "submission_id", name=op.f("pk_board_history")),
    )
    op.create_index(
        "ix_board_history_board", "board_history", ["board", "rules_version", "event_id"]
    )
    op.create_table(
        "round",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("challenge", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("images_sha256", sa.String(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("scoring", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("published_at", sa.Double(), nullable=True),
        sa.CheckConstraint(_STATES, name=op.f("ck_round_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_round")),
        sa.UniqueConstraint("challenge", "name", name=op.f("uq_round_challenge_name")),
    )
    op.create_index(op.f("ix_round_challenge"), "round", ["challenge"])
    op.create_table(
        "round_entry",
        sa.Column("round_id", sa.String(), nullable=False),
        sa.Column("submission_id", sa.String(), nullable=False),
        sa.Column("track", sa.String(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["round_id"], ["round.id"], name=op.f("fk_round_entry_round_id")),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submission.id"], name=op.f("fk_round_entry_submission_id")
        ),
        sa.PrimaryKeyConstraint("round_id", "submission_id", name=op.f("pk_round_entry")),
    )
    # Rows are derived: they are made again, with these columns, at the server's start.
    op.execute("DELETE FROM board_row")
    with op.batch_alter_table("board_row") as table:
        table.add_column(sa.Column("state", sa.String(), nullable=False))
        table.add_column(sa.Column("standing", sa.Double(), nullable=True))
        table.add_column(sa.Column("opponents", sa.String(), nullable=False))
        table.create_index("ix_board_row_standing", ["board", "rules_version", "standing"])
    op.add_column("attempt", sa.Column("ledger_sha256", sa.String(), nullable=True))
    with op.batch_alter_table("match") as table:
        table.add_column(sa.Column("round_id", sa.String(), nullable=True))
        table.create_foreign_key(op.f("fk_match_round_id"), "round", ["round_id"], ["id"])
        table.create_index(op.f("ix_match_round_id"), ["round_id"])
    with op.batch_alter_table("submission") as table:
        table.drop_constraint(op.f("ck_submission_kind"), type_="check")
        table.create_check_constraint(op.f("ck_submission_kind"), _ALL_KINDS)


def downgrade() -> None:
    """Fails while targeted attacks are entered: they have no place in the older schema."""
    with op.batch_alter_table("submission") as table:
        table.drop_constraint(op.f("ck_submission_kind"), type_="check")
        table.create_check_constraint(op.f("ck_submission_kind"), _KINDS)
    with op.batch_alter_table("match") as table:
        table.drop_index(op.f("ix_match_round_id"))
        table.drop_constraint(op.f("fk_match_round_id"), type_="foreignkey")
        table.drop_column("round_id")
    with op.batch_alter_table("attempt") as table:
        table.drop_column("ledger_sha256")
    with op.batch_alter_table("board_row") as table:
        table.drop_index("ix_board_row_standing")
        for name in ("opponents", "standing", "state"):
            table.drop_column(name)
    op.drop_table("round_entry")
    op.drop_index(op.f("ix_round_challenge"), table_name="round")
    op.drop_table("round")
    op.drop_index("ix_board_history_board", table_name="board_history")
    op.drop_table("board_history")
    op.drop_table("scoring")
    op.drop_table("challenge")
