"""Adapters for GPIO lines."""
