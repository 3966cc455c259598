"""The live page: a run's networks as data, and the script that runs them in a browser."""
