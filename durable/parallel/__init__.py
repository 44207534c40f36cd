"""Parallel work: futures, threads and the event loop. Knows no workflow and no SQL."""
