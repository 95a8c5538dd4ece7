"""Hostile models, servers, images and interruptions, to see that nothing falls over; `python -m tools.attack`."""
