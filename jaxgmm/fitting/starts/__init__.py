"""Starts: the mixtures at which climbs begin."""
