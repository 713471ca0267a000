"""Priors on the covariances: pseudo-rows and a log-density."""
