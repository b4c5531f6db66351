"""Add the keys and the columns of encrypted personal data. Nothing is encrypted yet.

Revision ID: 0017
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None
compatible_since = "0.1.0"
undo_loses = ""


def upgrade() -> None:
    op.add_column("sessions", sa.Column("personal", sa.LargeBinary(), nullable=True))
    op.add_column("revocations", sa.Column("personal", sa.LargeBinary(), nullable=True))
    op.add_column(
        "log_head", sa.Column("personal_data_state", sa.SmallInteger(), nullable=False, server_default="0")
    )
    op.add_column(
        "log_head", sa.Column("personal_data_revision", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.create_table(
        "personal_data_keys",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("wrapping_key_id", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("version", name="personal_data_keys_pkey"),
    )


def downgrade() -> None:
    op.drop_table("personal_data_keys")
    for name in ("personal_data_revision", "personal_data_state"):
        op.drop_column("log_head", name)
    op.drop_column("revocations", "personal")
    op.drop_column("sessions", "personal")
