"""Formats: how values that JSON lacks become JSON and bytes, and come back exactly."""
