"""Formats of the values of other libraries: numpy, pandas and pydantic."""
