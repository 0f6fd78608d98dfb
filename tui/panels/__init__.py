"""The panels of the main screen, one widget in each file."""
