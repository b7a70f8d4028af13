"""What is claimed about speed, runnable, side by side with peers: `python -m bench`."""
