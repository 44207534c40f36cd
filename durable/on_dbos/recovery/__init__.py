"""Beginning, ending and taking up again: who may run a workflow, and the runs of this process."""
