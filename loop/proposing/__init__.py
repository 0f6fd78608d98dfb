"""Proposing: an agent's idea becomes a candidate commit."""
