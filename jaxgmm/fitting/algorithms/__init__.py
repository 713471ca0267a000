"""Algorithms: ways to climb the objective."""
