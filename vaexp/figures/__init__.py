"""Figures: functions from numpy arrays to matplotlib figures, without models, torch or files.

Every figure says by itself what it shows. It has a title, a subtitle with the settings that matter,
which the caller gives, axes with names and units, and a note at the foot where reading needs one.
"""
