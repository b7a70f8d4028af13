"""Built-in adapters. They import the face, `from gateway import ...`, and nothing behind it."""
