"""The graph: sources, parsers, splits, inverses, statistics, text. Knows no model, imports no torch."""
