"""Starts: the mixtures that a climb begins at."""
