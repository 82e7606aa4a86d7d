"""Filtered ranks and metrics; knows no model and imports no torch."""
