"""Evaluation: predictions against labels, over a whole split."""
