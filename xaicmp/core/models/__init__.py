"""Classifiers: their sources, their layers, and the guard that leaves a model as it was found."""
