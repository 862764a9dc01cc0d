"""Engines: `base` is the seam, the rest is the embedded engine behind it."""
