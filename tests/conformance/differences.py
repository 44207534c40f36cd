"""Where the engines differ. Each difference is claimed by the tests that show it; `docs/engines.md` is made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Difference(NamedTuple):
    """One point, what each engine does there, and why."""

    sqlite: str
    dbos: str
    why: str


DIFFERENCES: dict[str, Difference] = {
    "functions": Difference(
        "any function; one that a notebook or a test has defined, too",
        "functions that every process can import by their path, else `InvalidNameError`; branches and steps may be "
        "anything",
        "another process may have to call it",
    ),
    "busy": Difference(
        "a second run of an id that is running raises `WorkflowBusyError`",
        "it waits for the end of the one that runs, and returns its result",
        "DBOS gives a caller that starts an id again the execution that is there",
    ),
    "executor ids": Difference(
        "a file is opened by as many processes as you like",
        "a second process with the `executor_id` of a living one raises `ExecutorBusyError`",
        "DBOS would take up what the other is just running",
    ),
    "running rows": Difference(
        "a step has a row `running` before its effect, with its attempt",
        "it has a row once it has ended; a try that a crash has ended is not counted",
        "DBOS saves outcomes; a row more would double what a step costs",
    ),
    "dead processes": Difference(
        "`engine.recover()`, or the next `run`, goes on",
        "opening an engine under the same `executor_id` does, within a second or two",
        "DBOS takes up what its executor has left, through its queue",
    ),
    "stopped": Difference(
        "if the engine refuses to go on (changed code, a value without JSON form), the workflow stays `running`",
        "it leaves it `failed`, with the same error on record; run again, it goes on",
        "DBOS hands an unfinished workflow to a process again by itself",
    ),
    "messages to the failed": Difference(
        "`engine.send` to a failed workflow is kept for its next run",
        "it raises `WorkflowEndedError`",
        "DBOS forgets what is unread when a failed workflow is run again",
    ),
    "message keys": Difference(
        "`engine.send(key=...)` returns whether it was the first of its key",
        "it keeps the first alone, too, and returns True while the workflow runs; after its end False, if it was "
        "received",
        "DBOS does not tell",
    ),
    "transaction": Difference(
        "`ctx.transaction` commits an effect on the file with its checkpoint",
        "raises `NotSupportedError`",
        "there is no file",
    ),
    "gc": Difference(
        "`engine.gc` drops what a dead process has begun to save of a large value",
        "it does so once the workflow has ended, or was deleted",
        "any machine may run a workflow that has not ended",
    ),
    "rewind": Difference(
        "`engine.rewind` takes rows back",
        "raises `NotSupportedError`; fork instead",
        "DBOS takes rows back by numbers that have no order here",
    ),
    "restart": Difference(
        "`engine.restart` supersedes all rows of a workflow and runs it anew, as another call",
        "raises `NotSupportedError`; fork instead",
        "DBOS takes rows back by numbers that have no order here",
    ),
    "lives": Difference(
        "`engine.runs` and `engine.owner` tell of each life, and which process has the id",
        "raise `NotSupportedError`",
        "DBOS keeps a count of dispatches and an executor id",
    ),
    "suspension": Difference(
        "with `suspend=True` what only waits holds no thread",
        "each workflow that waits holds one; there is no such option",
        "DBOS runs a workflow in a thread until it ends",
    ),
    "the database in a step": Difference(
        "`current_step().database` is the file",
        "it is a path that has the name of the database, and there is no file",
        "a step must not depend on where its workflow is saved",
    ),
    "threads": Difference(
        "`engine.run` calls the workflow function in the caller's own thread",
        "it is called in a thread of DBOS's, and the caller waits",
        "so a notebook cell, where an event loop runs, can wait for it, and Ctrl+C ends the wait",
    ),
    "engines in a process": Difference(
        "as many as you like",
        "one at a time, else `NotSupportedError`",
        "DBOS is one object in a process",
    ),
}


def differs(*subjects: str) -> Callable[[F], F]:
    """Mark a test that asserts both sides of a difference. Raises KeyError for one that is not declared."""
    for subject in subjects:
        DIFFERENCES[subject]

    def mark(test: F) -> F:
        test.differs = subjects  # type: ignore[attr-defined]
        return test

    return mark
