"""One run of a workflow: its log, its messages, its place among the runs of its process."""
