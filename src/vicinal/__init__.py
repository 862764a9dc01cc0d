"""Vicinal: a self-hosted implementation of the Vectorize V2 API."""
