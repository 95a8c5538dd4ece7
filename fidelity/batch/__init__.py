"""Many pictures on many machines: what to do, who does it, and what became of it."""
