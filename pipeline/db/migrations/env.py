"""How alembic runs our scripts: over the connection that `pipeline.db.migrate` hands it."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], target_metadata=None)
with context.begin_transaction():
    context.run_migrations()
