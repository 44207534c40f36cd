"""The notebook toolkit, the only place that knows Jupyter, pandas and matplotlib.

    from durable import lab

    lab.panel(onboarding, "emp_001", db="workflow.db")  # step through it, crash it, resume it
    lab.steps("workflow.db", "emp_001")                 # the steps table
    lab.history("workflow.db", "emp_001")               # every attempt, including superseded ones
    lab.lives("workflow.db", "emp_001")                 # its runs, and how each ended
    lab.compare("workflow.db", "emp_001")               # the table at the crash beside the one now
    lab.value("workflow.db", "emp_001", "create_record_1")  # the value of a step itself: a frame, say
    lab.workflows("workflow.db")                        # the workflows table
    lab.dashboard("workflow.db")                        # all workflows, live, to filter and to open
    lab.progress("workflow.db", "emp_001")              # how far its steps and maps are, live
    lab.timeline("workflow.db", "emp_001")              # what happened when, across crashes
    lab.speedup("workflow.db", "one_by_one", "parallel")  # how much time working in parallel saves
    lab.predict("How many run again?", [0, 1, 2], of="again")  # shows the answer once a later cell has bound `again`
    lab.recall("01")                                    # three questions at the end of a notebook
    server = lab.postgres()                             # a PostgreSQL of your own; or None, and a line that says why

A database is the path of a file, or the URL of a PostgreSQL.
"""

from durable.lab.dashboard import dashboard
from durable.lab.panel.widget import panel
from durable.lab.postgres import postgres
from durable.lab.questions.prediction import predict
from durable.lab.questions.recall import recall
from durable.lab.views.bars import progress
from durable.lab.views.plots import speedup, timeline
from durable.lab.views.tables import compare, history, lives, steps, value, workflows

__all__ = [
    "compare",
    "dashboard",
    "history",
    "lives",
    "panel",
    "postgres",
    "predict",
    "progress",
    "recall",
    "speedup",
    "steps",
    "timeline",
    "value",
    "workflows",
]
