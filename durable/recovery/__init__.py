"""Recovery: own a workflow id and begin a run; find and resume what a dead process left behind."""
