"""Runs side by side: their numbers, tables, page and pictures."""
