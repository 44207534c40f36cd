"""The lessons of the course: one module for each notebook, with its exercises and their checks."""
