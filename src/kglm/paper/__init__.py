"""Reported numbers, tables and figures; imports no method and no model."""
