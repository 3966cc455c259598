"""Which figures a run of each kind gets, from its weights, its images and what was measured."""
