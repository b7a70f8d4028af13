"""Adapters for what is on a serial line."""
