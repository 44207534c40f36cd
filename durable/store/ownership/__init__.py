"""Ownership of a workflow id: its owner, and the lock of the operating system that ends with its process."""
