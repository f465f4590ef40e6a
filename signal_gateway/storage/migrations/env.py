"""Alembic asks here for the connection; it is the one that `migrate.upgrade` was given, inside its transaction."""

from alembic import context

from signal_gateway.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
