"""Add to each session what rules about risk compare its uses with, and the number of its races.

A node of an earlier version leaves the columns as they are: a use that it accepts is not compared with later ones.

Revision ID: 0016
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None
compatible_since = "0.1.0"
undo_loses = "the known origins of sessions, which rules about risk compare their uses with, and the numbers of their races"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("origin_tag", sa.LargeBinary(), nullable=True))
    op.add_column("sessions", sa.Column("origins", sa.Text(), nullable=True))
    op.add_column("sessions", sa.Column("races", sa.Integer(), nullable=True))


def downgrade() -> None:
    for name in ("races", "origins", "origin_tag"):
        op.drop_column("sessions", name)
