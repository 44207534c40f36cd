"""The SQLite file: its schema, its connection and all SQL, and the locks beside it."""
