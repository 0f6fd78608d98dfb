"""Records: what a run keeps on disk and in git, and how it is read again."""
