"""The first schema."""

import sqlalchemy as sa
from alembic import op

from monitor.store.tables import UtcTime

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table('alert',
    sa.Column('monitor', sa.String(length=200), nullable=False),
    sa.Column('rule', sa.String(length=500), nullable=False),
    sa.Column('family', sa.String(length=20), nullable=False),
    sa.Column('state', sa.String(length=20), nullable=False),
    sa.Column('severity', sa.String(length=20), nullable=False),
    sa.Column('since', UtcTime(), nullable=False),
    sa.PrimaryKeyConstraint('monitor', 'rule')
    )
    op.create_table('audit',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('at', UtcTime(), nullable=False),
    sa.Column('actor', sa.String(length=200), nullable=False),
    sa.Column('action', sa.String(length=200), nullable=False),
    sa.Column('body', sa.JSON(), nullable=False),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_table('binning',
    sa.Column('hash', sa.String(length=100), nullable=False),
    sa.Column('body', sa.Text(), nullable=False),
    sa.Column('created_at', UtcTime(), nullable=False),
    sa.PrimaryKeyConstraint('hash')
    )
    op.create_table('incident',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('monitor', sa.String(length=200), nullable=False),
    sa.Column('family', sa.String(length=20), nullable=False),
    sa.Column('severity', sa.String(length=20), nullable=False),
    sa.Column('state', sa.String(length=20), nullable=False),
    sa.Column('headline', sa.Text(), nullable=False),
    sa.Column('owner', sa.String(length=200), nullable=False),
    sa.Column('opened_at', UtcTime(), nullable=False),
    sa.Column('closed_at', UtcTime(), nullable=True),
    sa.Column('reason', sa.String(length=100), nullable=False),
    sa.Column('first_window', UtcTime(), nullable=False),
    sa.Column('last_window', UtcTime(), nullable=False),
    sa.Column('closed_window', UtcTime(), nullable=True),
    sa.Column('windows', sa.Integer(), nullable=False),
    sa.Column('members', sa.JSON(), nullable=False),
    sa.Column('facts', sa.JSON(), nullable=False),
    sa.Column('hold_by', sa.String(length=200), nullable=False),
    sa.PrimaryKeyConstraint('id')
    )
    with op.batch_alter_table('incident', schema=None) as batch_op:
        batch_op.create_index('incident_of', ['monitor', 'state'], unique=False)

    op.create_table('lease',
    sa.Column('name', sa.String(length=200), nullable=False),
    sa.Column('owner', sa.String(length=200), nullable=False),
    sa.Column('until', UtcTime(), nullable=False),
    sa.Column('epoch', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('name')
    )
    op.create_table('meta',
    sa.Column('key', sa.String(length=100), nullable=False),
    sa.Column('value', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('key')
    )
    op.create_table('monitor',
    sa.Column('name', sa.String(length=200), nullable=False),
    sa.Column('settings_key', sa.String(length=200), nullable=False),
    sa.Column('settings', sa.JSON(), nullable=False),
    sa.Column('binning', sa.String(length=200), nullable=True),
    sa.Column('reference', sa.LargeBinary(), nullable=True),
    sa.Column('created_at', UtcTime(), nullable=False),
    sa.Column('newest_event', UtcTime(), nullable=True),
    sa.Column('newest_write', UtcTime(), nullable=True),
    sa.Column('silent_since', UtcTime(), nullable=True),
    sa.Column('labels_seen', sa.String(length=200), nullable=False),
    sa.Column('config_hash', sa.String(length=200), nullable=False),
    sa.PrimaryKeyConstraint('name')
    )
    op.create_table('outbox',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('key', sa.String(length=100), nullable=False),
    sa.Column('incident_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=True),
    sa.Column('destination', sa.String(length=200), nullable=False),
    sa.Column('kind', sa.String(length=20), nullable=False),
    sa.Column('sequence', sa.Integer(), nullable=False),
    sa.Column('payload', sa.JSON(), nullable=False),
    sa.Column('text', sa.Text(), nullable=False),
    sa.Column('state', sa.String(length=20), nullable=False),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.Column('next_at', UtcTime(), nullable=False),
    sa.Column('created_at', UtcTime(), nullable=False),
    sa.Column('sent_at', UtcTime(), nullable=True),
    sa.Column('lease_owner', sa.String(length=200), nullable=False),
    sa.Column('lease_until', UtcTime(), nullable=True),
    sa.Column('epoch', sa.Integer(), nullable=False),
    sa.Column('not_after', UtcTime(), nullable=True),
    sa.Column('error', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('key')
    )
    with op.batch_alter_table('outbox', schema=None) as batch_op:
        batch_op.create_index('outbox_due', ['state', 'next_at'], unique=False)
        batch_op.create_index('outbox_order', ['incident_id', 'destination', 'sequence'], unique=False)

    op.create_table('profile',
    sa.Column('monitor', sa.String(length=200), nullable=False),
    sa.Column('start', UtcTime(), nullable=False),
    sa.Column('revision', sa.Integer(), nullable=False),
    sa.Column('kind', sa.String(length=20), nullable=False),
    sa.Column('end', UtcTime(), nullable=False),
    sa.Column('binning', sa.String(length=200), nullable=False),
    sa.Column('rows', sa.BigInteger(), nullable=False),
    sa.Column('body', sa.LargeBinary(), nullable=False),
    sa.PrimaryKeyConstraint('monitor', 'start', 'revision', 'kind')
    )
    op.create_table('run',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('monitor', sa.String(length=200), nullable=False),
    sa.Column('start', UtcTime(), nullable=False),
    sa.Column('end', UtcTime(), nullable=False),
    sa.Column('revision', sa.Integer(), nullable=False),
    sa.Column('current', sa.Boolean(), nullable=False),
    sa.Column('verdict', sa.String(length=20), nullable=False),
    sa.Column('rows', sa.BigInteger(), nullable=False),
    sa.Column('as_of', UtcTime(), nullable=False),
    sa.Column('evaluated_at', UtcTime(), nullable=False),
    sa.Column('seconds', sa.Float(), nullable=False),
    sa.Column('config_hash', sa.String(length=200), nullable=False),
    sa.Column('binning', sa.String(length=200), nullable=True),
    sa.Column('baseline', sa.JSON(), nullable=False),
    sa.Column('contract_id', sa.String(length=200), nullable=False),
    sa.Column('contract_version', sa.String(length=200), nullable=False),
    sa.Column('contract_hash', sa.String(length=200), nullable=False),
    sa.Column('model_versions', sa.JSON(), nullable=False),
    sa.Column('fingerprint', sa.String(length=200), nullable=False),
    sa.Column('labelled', sa.Float(), nullable=True),
    sa.Column('labels_checked', UtcTime(), nullable=True),
    sa.Column('quality_state', sa.String(length=20), nullable=False),
    sa.Column('driftd_version', sa.String(length=50), nullable=False),
    sa.Column('sections', sa.JSON(), nullable=False),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.Column('retry_at', UtcTime(), nullable=True),
    sa.Column('error', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('monitor', 'start', 'revision', name='run_once')
    )
    with op.batch_alter_table('run', schema=None) as batch_op:
        batch_op.create_index('run_current', ['monitor', 'current', 'start'], unique=False)

    op.create_table('silence',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('monitor', sa.String(length=200), nullable=False),
    sa.Column('rule', sa.String(length=500), nullable=True),
    sa.Column('author', sa.String(length=200), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('starts_at', UtcTime(), nullable=False),
    sa.Column('ends_at', UtcTime(), nullable=False),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_table('token',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('monitor', sa.String(length=200), nullable=False),
    sa.Column('owner', sa.String(length=200), nullable=False),
    sa.Column('window', UtcTime(), nullable=False),
    sa.Column('at', UtcTime(), nullable=False),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('monitor', 'window', name='token_once')
    )
    op.create_table('announcement',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('incident_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('sequence', sa.Integer(), nullable=False),
    sa.Column('type', sa.String(length=50), nullable=False),
    sa.Column('at', UtcTime(), nullable=False),
    sa.Column('payload', sa.JSON(), nullable=False),
    sa.ForeignKeyConstraint(['incident_id'], ['incident.id'], ),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('incident_id', 'sequence', name='announcement_once')
    )
    op.create_table('delivery_attempt',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('outbox_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('at', UtcTime(), nullable=False),
    sa.Column('outcome', sa.String(length=20), nullable=False),
    sa.Column('detail', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['outbox_id'], ['outbox.id'], ),
    sa.PrimaryKeyConstraint('id')
    )
    with op.batch_alter_table('delivery_attempt', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_delivery_attempt_outbox_id'), ['outbox_id'], unique=False)

    op.create_table('result',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('run_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('rule', sa.String(length=500), nullable=False),
    sa.Column('family', sa.String(length=20), nullable=False),
    sa.Column('verdict', sa.String(length=20), nullable=False),
    sa.Column('value', sa.Float(), nullable=True),
    sa.Column('low', sa.Float(), nullable=True),
    sa.Column('high', sa.Float(), nullable=True),
    sa.Column('n', sa.BigInteger(), nullable=False),
    sa.Column('column', sa.String(length=200), nullable=True),
    sa.Column('slice', sa.String(length=500), nullable=True),
    sa.Column('state', sa.String(length=20), nullable=False),
    sa.Column('cleared', sa.Boolean(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['run_id'], ['run.id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id')
    )
    with op.batch_alter_table('result', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_result_run_id'), ['run_id'], unique=False)

    op.create_table('rollback',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('incident_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('monitor', sa.String(length=200), nullable=False),
    sa.Column('mode', sa.String(length=20), nullable=False),
    sa.Column('state', sa.String(length=20), nullable=False),
    sa.Column('from_version', sa.String(length=200), nullable=False),
    sa.Column('to_version', sa.String(length=200), nullable=False),
    sa.Column('guards', sa.JSON(), nullable=False),
    sa.Column('payload', sa.JSON(), nullable=False),
    sa.Column('webhook_id', sa.String(length=100), nullable=False),
    sa.Column('created_at', UtcTime(), nullable=False),
    sa.Column('not_after', UtcTime(), nullable=True),
    sa.Column('dispatched_at', UtcTime(), nullable=True),
    sa.Column('settle_until', UtcTime(), nullable=True),
    sa.Column('confirmed_at', UtcTime(), nullable=True),
    sa.Column('posts', sa.Integer(), nullable=False),
    sa.Column('detail', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['incident_id'], ['incident.id'], ),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('incident_id')
    )
    op.create_table('violation',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('run_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('rule', sa.String(length=500), nullable=False),
    sa.Column('body', sa.JSON(), nullable=False),
    sa.ForeignKeyConstraint(['run_id'], ['run.id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id')
    )
    with op.batch_alter_table('violation', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_violation_run_id'), ['run_id'], unique=False)




def downgrade() -> None:

    with op.batch_alter_table('violation', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_violation_run_id'))

    op.drop_table('violation')
    op.drop_table('rollback')
    with op.batch_alter_table('result', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_result_run_id'))

    op.drop_table('result')
    with op.batch_alter_table('delivery_attempt', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_delivery_attempt_outbox_id'))

    op.drop_table('delivery_attempt')
    op.drop_table('announcement')
    op.drop_table('token')
    op.drop_table('silence')
    with op.batch_alter_table('run', schema=None) as batch_op:
        batch_op.drop_index('run_current')

    op.drop_table('run')
    op.drop_table('profile')
    with op.batch_alter_table('outbox', schema=None) as batch_op:
        batch_op.drop_index('outbox_order')
        batch_op.drop_index('outbox_due')

    op.drop_table('outbox')
    op.drop_table('monitor')
    op.drop_table('meta')
    op.drop_table('lease')
    with op.batch_alter_table('incident', schema=None) as batch_op:
        batch_op.drop_index('incident_of')

    op.drop_table('incident')
    op.drop_table('binning')
    op.drop_table('audit')
    op.drop_table('alert')

