"""Add the overrides of the policies, and their revision to the head of the log.

A node of an earlier version keeps to its policy file: it neither applies nor changes the overrides.

Revision ID: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0011"
branch_labels = None
depends_on = None
compatible_since = "0.1.0"
undo_loses = "the overrides of policies"


def upgrade() -> None:
    op.create_table(
        "policy_overrides",
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("update_time", sa.BigInteger(), nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("path", name="policy_overrides_pkey"),
    )
    op.add_column(
        "log_head", sa.Column("policies_revision", sa.BigInteger(), nullable=False, server_default="0")
    )


def downgrade() -> None:
    op.drop_column("log_head", "policies_revision")
    op.drop_table("policy_overrides")
