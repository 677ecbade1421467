"""Run folders: find, create, load and save them, screen what strangers put there, and keep outputs and calibrations."""
