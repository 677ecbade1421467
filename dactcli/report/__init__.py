"""Reports: results drawn on a terminal. Imports no torch."""
