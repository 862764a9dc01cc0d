"""Metadata filters: `nodes` is their form, `parse` their grammar, `evaluate` their meaning."""
