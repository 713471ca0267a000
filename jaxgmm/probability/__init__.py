"""Probability: densities, draws, algebra and divergences of mixtures."""
