"""How often the attributes of documents in an index were changed by themselves: who has the index open sees it by that."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this version."""
    op.add_column("indexes", sa.Column("attributes_version", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    """To the version before."""
    op.drop_column("indexes", "attributes_version")
