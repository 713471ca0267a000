"""Model: the mixture, its covariances and families, the priors, and the moments that connect them."""
