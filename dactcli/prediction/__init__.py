"""Predictions for texts without labels: in memory, and file to file."""
