"""The panel, the tables, the timeline, the exercises and the notebooks."""
