"""From a config to a finished run: prepare, train, measure, evaluate, sample, draw."""
