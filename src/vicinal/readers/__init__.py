"""Readers of files to import: one module for every form, recognised by content (`opening`)."""
