"""How bytes get in: the only rooms that know pyserial."""
