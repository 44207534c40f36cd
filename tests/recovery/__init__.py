"""What happens to a workflow from outside: recover, cancel, rewind, fork, delete, export."""
