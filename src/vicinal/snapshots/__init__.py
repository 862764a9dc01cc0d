"""Snapshots of a whole server: taken while it serves, kept in a folder or sent as one stream."""
