"""Classifiers: where they come from, their layers, and how they are left as they were found."""
