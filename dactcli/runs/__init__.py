"""Run folders: find, create, load and save them, screen untrusted files, and cache layer outputs and calibrations."""
