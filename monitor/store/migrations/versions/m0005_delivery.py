"""Acknowledgement, source incidents, held messages, state of destinations, silences, approval of rollbacks."""

import sqlalchemy as sa
from alembic import op

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), 'sqlite')


def _text(name: str, size: int = 200) -> sa.Column:
    return sa.Column(name, sa.String(size), nullable=False, server_default='')


def _time(name: str) -> sa.Column:
    return sa.Column(name, sa.BigInteger(), nullable=True)


def _count(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer(), nullable=False, server_default='0')


COLUMNS = {
    'incident': [
        sa.Column('scope', sa.String(20), nullable=False, server_default='monitor'), _text('source', 500), sa.Column('parent_id', NUMBER, nullable=True),
        _text('acked_by'), _time('acked_at'), _time('escalated_at'), _time('reminded_at'), _count('reminders'), _count('flapping'), _time('since'), _time('fail_since'),
    ],
    'outbox': [_text('held_by', 500), _text('covered_by', 500)],
    'silence': [
        sa.Column('incident_id', NUMBER, nullable=True), sa.Column('family', sa.String(20), nullable=True), _text('kind', 20), _time('ended_at'),
    ],
    'rollback': [
        _text('payload_hash', 100), _text('decided_by'), _time('decided_at'), _time('expires_at'), _time('verified_at'),
    ],
    'result': [_text('definition', 40)],
}


def upgrade() -> None:
    for table, columns in COLUMNS.items():
        for column in columns:
            op.add_column(table, column)
    op.create_table(
        'destination',
        sa.Column('name', sa.String(200), primary_key=True),
        sa.Column('failures', sa.Integer(), nullable=False),
        _time('open_until'), _time('failing_since'), _time('disabled_at'), _time('told_at'),
        sa.Column('reason', sa.Text(), nullable=False),
    )
    op.create_table(
        'thread',
        sa.Column('incident_id', NUMBER, sa.ForeignKey('incident.id'), primary_key=True),
        sa.Column('destination', sa.String(200), primary_key=True),
        sa.Column('ref', sa.String(500), nullable=False),
    )
    op.create_index('outbox_destination', 'outbox', ['destination', 'state', 'next_at'])
    op.create_index('rollback_state', 'rollback', ['state'])
    op.create_index('incident_state', 'incident', ['state', 'parent_id'])


def downgrade() -> None:
    op.drop_index('incident_state', 'incident')
    op.drop_index('rollback_state', 'rollback')
    op.drop_index('outbox_destination', 'outbox')
    op.drop_table('thread')
    op.drop_table('destination')
    for table, columns in reversed(COLUMNS.items()):
        for column in columns:
            op.drop_column(table, column.name)
