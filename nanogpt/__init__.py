"""The code that is researched: a small GPT and what trains it, as plain scripts that import no other room."""
