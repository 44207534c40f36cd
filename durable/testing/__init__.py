"""Crashing on purpose, for our tests and the users' own: real processes, real SIGKILLs, at named moments.

    from durable.testing import crash_matrix, effect, run_until_crash

    run_until_crash("workflow.db", "emp_001", onboarding, "Jane", at="provision_laptop:executed")   # one crash
    crash_matrix(onboarding, "Jane").assert_survives()      # a crash at every moment of every step, each one resumed

In a test suite, `crash_matrix` is also a fixture of pytest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable.limits.payload import PayloadError
    from durable.observer import crash, crash_at
    from durable.testing.effects import effect
    from durable.testing.inside import wait_for_change
    from durable.testing.matrix.judge import PROMISES, Violation
    from durable.testing.matrix.plan import Plan
    from durable.testing.matrix.play import crash_matrix
    from durable.testing.matrix.pool import MatrixError, Pool
    from durable.testing.matrix.report import DoesNotSurviveError, Report
    from durable.testing.recording import history, replay
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

_HOMES = {
    "durable.limits.payload": ("PayloadError",),
    "durable.observer": ("crash", "crash_at"),
    "durable.testing.inside": ("wait_for_change",),
    "durable.testing.effects": ("effect",),
    "durable.testing.matrix.judge": ("PROMISES", "Violation"),
    "durable.testing.matrix.play": ("crash_matrix",),
    "durable.testing.matrix.plan": ("Plan",),
    "durable.testing.matrix.pool": ("MatrixError", "Pool"),
    "durable.testing.recording": ("history", "replay"),
    "durable.testing.matrix.report": ("DoesNotSurviveError", "Report"),
    "durable.testing.run_until": ("NoCrashError", "run_until_crash"),
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for: each run of pytest, in any project, imports the plugin beside it."""
    for home, names in _HOMES.items():
        if name in names:
            globals()[name] = value = getattr(import_module(home), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
