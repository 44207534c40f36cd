"""What several tests share: child processes, workflows to run, a PostgreSQL, wrong engines."""
