"""Framers, one room for each wire format: chunks of bytes in, whole frames out."""
