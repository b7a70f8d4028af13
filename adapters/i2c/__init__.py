"""Adapters for sensors on an I²C bus."""
