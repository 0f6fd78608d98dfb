"""Training by way of Slurm: the executor, its commands, and a worker that keeps a place."""
