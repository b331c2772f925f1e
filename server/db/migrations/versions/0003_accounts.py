"""Accounts in full: passwords, teams, organisers, invitations, sessions"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ROLES = "role IN ('participant', 'operator', 'system')"
_ALL_ROLES = "role IN ('participant', 'operator', 'system', 'team')"


def upgrade() -> None:
    with op.batch_alter_table("account") as table:
        table.add_column(sa.Column("password", sa.String(), nullable=True))
        table.drop_constraint(op.f("ck_account_role"), type_="check")
        table.create_check_constraint(op.f("ck_account_role"), _ALL_ROLES)
    op.create_table(
        "membership",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("team_id", sa.String(), nullable=False),
        sa.Column("captain", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_membership_account_id")
        ),
        sa.ForeignKeyConstraint(["team_id"], ["account.id"], name=op.f("fk_membership_team_id")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_membership")),
    )
    op.create_index(op.f("ix_membership_team_id"), "membership", ["team_id"])
    op.create_table(
        "organiser",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("challenge", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_organiser_account_id")
        ),
        sa.PrimaryKeyConstraint("account_id", "challenge", name=op.f("pk_organiser")),
    )
    op.create_table(
        "identity",
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_identity_account_id")
        ),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("pk_identity")),
    )
    op.create_index(op.f("ix_identity_account_id"), "identity", ["account_id"])
    op.create_table(
        "invitation",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("team_id", sa.String(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("used_by", sa.String(), nullable=True),
        sa.Column("used_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["team_id"], ["account.id"], name=op.f("fk_invitation_team_id")),
        sa.ForeignKeyConstraint(["used_by"], ["account.id"], name=op.f("fk_invitation_used_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invitation")),
        sa.UniqueConstraint("digest", name=op.f("uq_invitation_digest")),
    )
    op.create_index(op.f("ix_invitation_team_id"), "invitation", ["team_id"])
    with op.batch_alter_table("token") as table:
        table.add_column(sa.Column("label", sa.String(), nullable=False, server_default=""))
        table.add_column(sa.Column("kind", sa.String(), nullable=False, server_default="api"))
    with op.batch_alter_table("token") as table:
        table.alter_column("label", existing_type=sa.String(), server_default=None)
        table.alter_column("kind", existing_type=sa.String(), server_default=None)
    with op.batch_alter_table("submission") as table:
        table.add_column(sa.Column("submitted_by", sa.String(), nullable=True))
        table.create_foreign_key(
            op.f("fk_submission_submitted_by"), "account", ["submitted_by"], ["id"]
        )


def downgrade() -> None:
    """Fails while there are teams: they have no place in the older schema."""
    with op.batch_alter_table("submission") as table:
        table.drop_constraint(op.f("fk_submission_submitted_by"), type_="foreignkey")
        table.drop_column("submitted_by")
    op.execute("DELETE FROM token WHERE kind = 'session'")
    with op.batch_alter_table("token") as table:
        table.drop_column("kind")
        table.drop_column("label")
    op.drop_index(op.f("ix_invitation_team_id"), table_name="invitation")
    op.drop_table("invitation")
    op.drop_index(op.f("ix_identity_account_id"), table_name="identity")
    op.drop_table("identity")
    op.drop_table("organiser")
    op.drop_index(op.f("ix_membership_team_id"), table_name="membership")
    op.drop_table("membership")
    with op.batch_alter_table("account") as table:
        table.drop_constraint(op.f("ck_account_role"), type_="check")
        table.create_check_constraint(op.f("ck_account_role"), _ROLES)
        table.drop_column("password")
