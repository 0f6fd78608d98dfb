"""Training: a candidate commit becomes a finished training process and its folder."""
