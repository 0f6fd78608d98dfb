"""Who proposes experiments."""
