"""Parallel work: steps, branches, threads, the event loop, and Ctrl+C in the middle of it."""
