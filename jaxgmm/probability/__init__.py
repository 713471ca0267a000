"""Probability: densities, draws, algebra and distances of mixtures."""
