"""The server (cluster and timeline) that wrote the head of the log, and the last entry that a standby has.

A promoted standby may lack entries, and would give their sequences to other entries. Nodes of an earlier version change
neither column, so the second column counts only while it is the sequence of the last entry.

Revision ID: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
compatible_since = "0.1.0"
undo_loses = "the name of the server, by which nodes notice a failover"


def upgrade() -> None:
    op.add_column("log_head", sa.Column("server", sa.Text(), nullable=True))
    op.add_column("log_head", sa.Column("replicated_sequence", sa.BigInteger(), nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "UPDATE log_head SET server = nullif(current_setting('log.server', true), ''), "
            "replicated_sequence = CASE WHEN current_setting('synchronous_standby_names') <> '' "
            "AND current_setting('synchronous_commit') IN ('on', 'remote_apply') THEN sequence END"
        )


def downgrade() -> None:
    op.drop_column("log_head", "replicated_sequence")
    op.drop_column("log_head", "server")
