"""The notebook toolkit, the only place that knows Jupyter, pandas and matplotlib.

from durable import lab

lab.panel(onboarding, "emp_001", db="workflow.db")  # step through it, crash it, resume it
lab.steps("workflow.db", "emp_001")                 # the steps table
lab.workflows("workflow.db")                        # the workflows table
lab.timeline("workflow.db", "emp_001")              # what happened when, across crashes
"""

from durable.lab.panel import panel
from durable.lab.plots import timeline
from durable.lab.tables import steps, workflows

__all__ = ["panel", "steps", "timeline", "workflows"]
