"""Readings in a stream that is no serial port: a command's output, a file that grows, datagrams, connections."""
