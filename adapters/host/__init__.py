"""Adapters for what the kernel shows as files."""
