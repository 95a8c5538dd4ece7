"""Sources of the workflows, the demo, and the documentation's pictures."""
