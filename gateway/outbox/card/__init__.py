"""The card: the database of the outbox, how it is opened, written, read back and salvaged. Only here is SQL."""
