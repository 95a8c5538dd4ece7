"""Sources of the workflows, the demo and the pictures in the documentation."""
