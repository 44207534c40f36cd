"""Waiting: the clock, the alarm that wakes what is due, and workflows that are suspended meanwhile."""
