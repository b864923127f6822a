"""Training a classifier in a few epochs."""
