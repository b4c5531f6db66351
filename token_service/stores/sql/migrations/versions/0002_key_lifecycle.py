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
compatible_since = "0.1.0"
undo_loses = "the certificates of signing keys, and the place of keys in an HSM"


def upgrade() -> None:
    op.add_column("signing_keys", sa.Column("provider", sa.Text(), nullable=False, server_default="local"))
    op.add_column("signing_keys", sa.Column("certificates", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("nodes", sa.Column("key_revision", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("nodes", "key_revision")
    op.drop_column("signing_keys", "certificates")
    op.drop_column("signing_keys", "provider")
