"""The SQLite file: its tables, its commits, its locks, and files that cannot be trusted."""
