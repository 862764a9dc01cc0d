"""Nearest-neighbour search in one segment: numbers and ordinals only."""
