"""Durable cells: each life is an IPython process of its own, and a kill is a real SIGKILL."""
