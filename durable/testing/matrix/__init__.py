"""The crash matrix: its plan of faults, the processes that play the cases, the judge and the report."""
