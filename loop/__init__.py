"""The engine of autoresearch-tui: propose, train, judge, log. Imports neither textual nor torch."""

from importlib.metadata import version

__version__ = version("autoresearch-tui")
