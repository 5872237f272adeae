"""Synthetic annotators that walk the real pages over HTTP. Nothing in this package touches the database."""
