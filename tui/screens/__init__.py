"""The screens: the main one with the panels, and those that open over it."""
