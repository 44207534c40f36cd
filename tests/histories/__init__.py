"""Workflows recorded by earlier releases, which today's code must replay."""
