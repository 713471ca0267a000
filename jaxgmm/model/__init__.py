"""Model: the mixture, its covariances and families, the priors, and the moments that all of them meet at."""
