"""The figure of each group of measures, drawn from its arrays and its entries.

``evaluation.groups`` names the functions. They know no run folder and no config.
"""

from vaexp.figures.evidence.about import About, Arrays, Entries

__all__ = ["About", "Arrays", "Entries"]
