"""The exercises of the notebooks: one module for each notebook, with its checks.

`python -m durable.lab.course` makes the readers' notebooks and all outputs from the solved ones, see `build.py`.
"""
