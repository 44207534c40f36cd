"""The rows in PostgreSQL: their form, and how they are written and read. Runs no workflow."""
