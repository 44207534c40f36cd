"""Crashing on purpose, for our tests and the users' own: real processes, real SIGKILLs, at named moments.

from durable.testing import crash_matrix, effect, run_until_crash

run_until_crash("workflow.db", "emp_001", onboarding, "Jane", at="provision_laptop:executed")   # one crash
crash_matrix(onboarding, "Jane").assert_survives()      # a crash at every moment of every step, each one resumed
"""

from durable.limits.payload import PayloadError
from durable.observer import crash, crash_at
from durable.testing.change import wait_for_change
from durable.testing.effects import effect
from durable.testing.judge import PROMISES, Violation
from durable.testing.matrix import crash_matrix
from durable.testing.plan import Plan
from durable.testing.pool import MatrixError, Pool
from durable.testing.recording import history, replay
from durable.testing.report import DoesNotSurviveError, Report
from durable.testing.run_until import NoCrashError, run_until_crash

__all__ = [
    "PROMISES",
    "DoesNotSurviveError",
    "MatrixError",
    "NoCrashError",
    "PayloadError",
    "Plan",
    "Pool",
    "Report",
    "Violation",
    "crash",
    "crash_at",
    "crash_matrix",
    "effect",
    "history",
    "replay",
    "run_until_crash",
    "wait_for_change",
]
