"""The cockpit: a window on the engine."""
