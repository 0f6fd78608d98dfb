"""Training: runs a candidate commit in a process of its own and says how that went."""
