"""The SQLite file: its schema, its connection with group commit, its -wal and its place on the disk."""
