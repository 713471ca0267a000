"""Algorithms that climb the objective: EM, accelerated EM, gradient ascent."""
