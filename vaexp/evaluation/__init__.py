"""Measures: pure functions of a model and images."""
