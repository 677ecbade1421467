"""Evaluation: layer outputs, metrics, and what every halting rule makes of them."""
