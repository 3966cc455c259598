"""The section ``model`` and the whole experiment of each kind of model, one file per kind."""
