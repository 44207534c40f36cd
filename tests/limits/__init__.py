"""Limits of a step: retries, a timeout, a process of its own."""
