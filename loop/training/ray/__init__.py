"""Training on a Ray cluster: the executor, and the process that speaks with Ray for it."""
