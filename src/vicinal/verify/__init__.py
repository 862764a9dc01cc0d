"""Verification: every checksum of a data folder, read without changing anything."""
