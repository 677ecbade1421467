"""Profiling: what a layer saved is worth in seconds."""
