"""Data: how rows reach a fit, and the passes over them."""
