"""The steps from a config to a finished run: prepare, train, measure, evaluate, sample, draw."""
