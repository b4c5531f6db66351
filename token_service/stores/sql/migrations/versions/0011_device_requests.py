"""Add the requests of devices that wait for a user (RFC 8628).

Revision ID: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None
compatible_since = "0.1.0"
undo_loses = "the requests of devices that wait for their users"


def upgrade() -> None:
    op.create_table(
        "device_requests",
        sa.Column("user_code_digest", sa.LargeBinary(), nullable=False),
        sa.Column("code_digest", sa.LargeBinary(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("expire_time", sa.BigInteger(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("user_code_digest", name="device_requests_pkey"),
    )
    op.create_index("device_requests_by_expire_time", "device_requests", ["expire_time"])


def downgrade() -> None:
    op.drop_table("device_requests")
