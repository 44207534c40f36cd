"""The kill test on PostgreSQL: workers are killed and replaced all the time. `python -m tests.fleet`."""
