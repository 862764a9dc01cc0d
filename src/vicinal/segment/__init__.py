"""Immutable segments, the memtable, and the columns that filters read."""
