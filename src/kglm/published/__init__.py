"""Results that are handed on: a run's small files, which give its rows of tables without training it again."""
