"""Fitting: steps, algorithms, starts, restarts, and the choice among fits."""
