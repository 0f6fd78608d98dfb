"""Records: everything of a run that stays on disk or in git."""
