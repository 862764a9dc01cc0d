"""Durable files: SQLite for log and catalog, write-once component files for segments."""
