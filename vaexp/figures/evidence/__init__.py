"""The figure of each group of measures: its arrays and entries in, a matplotlib figure out.

``evaluation.groups`` names the functions. They know no run folder and no config.
"""

from vaexp.figures.evidence.about import About, Arrays, Entries

__all__ = ["About", "Arrays", "Entries"]
