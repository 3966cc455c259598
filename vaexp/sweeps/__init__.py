"""Sweeps: many runs of one config, and what has become of each of them. Imports no torch."""
