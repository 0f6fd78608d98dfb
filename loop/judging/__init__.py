"""Judging: what a finished training means. Pure functions of data, no input or output."""
