"""The same log on DBOS and PostgreSQL: what concerns that backend alone."""
