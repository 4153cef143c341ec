"""New model versions under watch."""

import sqlalchemy as sa
from alembic import op

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), 'sqlite')
    op.create_table(
        'deployment',
        sa.Column('id', number, autoincrement=True, nullable=False),
        sa.Column('monitor', sa.String(200), nullable=False),
        sa.Column('version', sa.String(200), nullable=False),
        sa.Column('previous', sa.String(200), nullable=False),
        sa.Column('first_seen', sa.BigInteger(), nullable=False),
        sa.Column('until', sa.BigInteger(), nullable=False),
        sa.Column('state', sa.String(20), nullable=False),
        sa.Column('verdict', sa.String(20), nullable=False),
        sa.Column('body', sa.JSON(), nullable=False),
        sa.Column('incident_id', number, sa.ForeignKey('incident.id'), nullable=True),
        sa.Column('updated_at', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('monitor', 'version', name='deployment_once'),
    )


def downgrade() -> None:
    op.drop_table('deployment')
