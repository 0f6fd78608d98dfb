"""Programs that run as processes of their own around a trainer. Standard library only."""
