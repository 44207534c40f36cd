"""Real workflows, small enough to read at a glance. Each appends what it does to an effects log beside the database."""
