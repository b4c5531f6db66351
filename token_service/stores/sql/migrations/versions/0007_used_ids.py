"""Add the identifiers that may be used once, such as the `jti` of a client assertion.

Revision ID: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
compatible_since = "0.1.0"
undo_loses = "the used identifiers, so that assertions which are still valid can be used again"


def upgrade() -> None:
    op.create_table(
        "used_ids",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("expire_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name="used_ids_pkey"),
    )
    op.create_index("used_ids_by_expire_time", "used_ids", ["expire_time"])


def downgrade() -> None:
    op.drop_table("used_ids")
