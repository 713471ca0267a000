"""Known mixtures, fits to data drawn from them, and how far apart they are."""
