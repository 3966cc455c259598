"""Comparing runs: their numbers, tables, the page and its pictures."""
