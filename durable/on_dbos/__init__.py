"""Past one machine: the same workflow functions on DBOS Transact and PostgreSQL.

    from durable.on_dbos import DBOSEngine

    with DBOSEngine("postgresql://me@host/workflows", executor_id="machine-1") as engine:
        engine.run("emp_001", onboarding, "Jane Doe")

The rules are the same as on one file: step keys in program order, the replay rule, the codec. DBOS stores the rest:
each checkpoint is a step of a DBOS workflow, and who may write is DBOS's to say.
"""

try:
    import dbos as _dbos
except ImportError as error:
    raise ImportError(
        'durable.on_dbos needs the package dbos, and that is not installed here; pip install "durable-lab[dbos]"'
    ) from error

from durable.on_dbos.engine import DBOSEngine
from durable.on_dbos.workers.submission import submit, submit_many

__all__ = ["DBOSEngine", "submit", "submit_many"]

del _dbos
