"""The plan: what will fit, what will restart, before anything changes."""
