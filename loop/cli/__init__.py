"""The `autoresearch-tui` command and its subcommands."""
