"""Immutable segments, the mutable memtable, and the columns filters read."""
