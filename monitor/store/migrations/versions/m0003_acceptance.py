"""Levels that a person has made normal."""

import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), 'sqlite')
    op.create_table(
        'acceptance',
        sa.Column('id', number, autoincrement=True, nullable=False),
        sa.Column('monitor', sa.String(200), nullable=False),
        sa.Column('incident_id', number, sa.ForeignKey('incident.id'), nullable=False),
        sa.Column('family', sa.String(20), nullable=False),
        sa.Column('kind', sa.String(20), nullable=False),
        sa.Column('since', sa.BigInteger(), nullable=False),
        sa.Column('until', sa.BigInteger(), nullable=False),
        sa.Column('columns', sa.JSON(), nullable=True),
        sa.Column('author', sa.String(200), nullable=False),
        sa.Column('at', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('id'),
    )
    op.create_index('acceptance_of', 'acceptance', ['monitor', 'since'])


def downgrade() -> None:
    op.drop_index('acceptance_of', table_name='acceptance')
    op.drop_table('acceptance')
