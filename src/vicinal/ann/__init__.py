"""Nearest-neighbour search in one block of rows: numbers and ordinals only."""
