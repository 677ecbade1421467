"""Inspection: the halting trace of single examples."""
