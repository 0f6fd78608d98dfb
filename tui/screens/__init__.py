"""Screens opened over the cockpit."""
