"""Sends experiments to the tools in which people keep them; each tool is served by a process of its own."""
