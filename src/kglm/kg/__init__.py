"""The graph: sources, parsers, splits, inverse triples, statistics, text. Knows no model and imports no torch."""
