"""How Alembic reaches the store that driftd opened: all migrations in one transaction, one process at a time."""

import sqlalchemy as sa
from alembic import context

from monitor.store.tables import metadata

engine = context.config.attributes["engine"]
with engine.connect() as connection, connection.begin():
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended('driftd schema', 0))"))
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()
