"""What a window was scanned from and under which plan."""

import sqlalchemy as sa
from alembic import op

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('run', sa.Column('snapshot', sa.String(200), nullable=False, server_default=''))
    op.add_column('run', sa.Column('plan', sa.JSON(), nullable=False, server_default='{}'))
