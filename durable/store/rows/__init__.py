"""The SQL of each table: steps, waits, workflows and large values; and steps read a page at a time for a replay."""
