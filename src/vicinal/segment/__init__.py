"""Immutable segments, the mutable tail, and the columns filters read."""
