"""What comes out: predictions, explanations, scores, comparisons, intervals, tests, verdicts."""
