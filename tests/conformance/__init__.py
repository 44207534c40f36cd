"""What holds on both engines: the same tests, on one SQLite file and on DBOS with PostgreSQL."""
