"""One conformance suite over every adapter, golden cases in folders, and the laws of framers and decoders."""
