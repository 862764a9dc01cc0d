"""Keyword search: texts as terms, and the score of terms."""
