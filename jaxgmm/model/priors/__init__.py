"""Priors: pseudo-rows and a log-density."""
