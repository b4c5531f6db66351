"""The place of a private key, its certificates, and the revision of the key set that validators have.

Revision ID: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("signing_keys", sa.Column("provider", sa.Text(), nullable=False, server_default="local"))
    op.add_column("signing_keys", sa.Column("certificates", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("nodes", sa.Column("key_revision", sa.BigInteger(), nullable=False, server_default="0"))
