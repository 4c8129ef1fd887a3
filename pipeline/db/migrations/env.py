"""How alembic runs our scripts: over the connection that `pipeline.db.migrate` hands it. On PostgreSQL each script is a
transaction of its own, so that none waits for locks while it holds those of another."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=None, transaction_per_migration=connection.dialect.name == "postgresql"
)
with context.begin_transaction():
    context.run_migrations()
