"""Training: recipes, schedules, losses, batches, and the run that ties them together."""
