"""The engine of autoresearch-tui: propose, train, judge, log. Imports neither textual nor torch."""
