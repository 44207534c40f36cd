"""How fast the engine is, beside bare `sqlite3` in the same run: `python -m tests.benchmarks`."""
