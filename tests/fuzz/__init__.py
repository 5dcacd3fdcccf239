"""Hostile and broken input for every reader; see __main__.py for a long run."""
