"""The shared engine: many nodes over one PostgreSQL, which keeps log, catalog and rows."""
