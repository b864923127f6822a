"""Faithfulness, randomisation, stability and cost."""
