"""Measurements of vaexp and of what people use today; README.md says what each script measures.

A package of the same name comes with some versions of pyarrow, which this file keeps behind it.
"""
