"""Comparisons, images, studies, methods and trainings as tables."""
