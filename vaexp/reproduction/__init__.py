"""The report, reproduced: its runs, its fourteen figures, its questions, and a page of all."""
