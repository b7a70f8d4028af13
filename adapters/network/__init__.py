"""Readings that come over the network as messages: from a broker, from posts of weather stations."""
