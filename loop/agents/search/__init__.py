"""Agent `search`: a surrogate model over the hyperparameters; needs no key and no network."""
