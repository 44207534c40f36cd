"""Check: which values of a database are damaged, unused or pickled, for `durable doctor`. Nothing is changed by it.

DBOS's own rows have no checksums.
"""

from __future__ import annotations

from collections.abc import Iterator

from durable.on_dbos.store import large, workflows
from durable.on_dbos.store.reader import Reader
from durable.values.codec import PICKLE_MARK
from durable.values.large import describe_damage


def check_values(held: large.Tables, asked: workflows.Asked) -> Iterator[str]:
    """Yield the faults of the large values, each with the workflows that name the value."""
    stored = {sha256 for (sha256,) in held.ask("select sha256 from durable.large_values")}
    uses: dict[str, list[str]] = {sha256: [] for sha256 in stored}
    for workflow_id, sha256 in held.ask("select workflow_id, sha256 from durable.value_uses order by 1"):
        uses.setdefault(sha256, []).append(workflow_id)
    for sha256 in large.SharedValues(held, "").list_damaged(sorted(uses)):
        named = [each for each in uses[sha256] if large.is_named(sha256, each, asked)]
        if named or sha256 in stored:  # else a run has begun to save it
            yield describe_damage(sha256, [repr(each) for each in named])


def list_unused(held: large.Tables, asked: workflows.Asked) -> list[tuple[str, int]]:
    """Return the values that gc would drop, each with its bytes."""
    dead = {(workflow_id, sha256) for workflow_id, sha256, _ in large.list_dead_uses(held, asked)}
    uses = map(tuple, held.ask("select workflow_id, sha256 from durable.value_uses"))
    used = {sha256 for workflow_id, sha256 in uses if (workflow_id, sha256) not in dead}
    sizes = {sha256: 0 for (sha256,) in held.ask("select sha256 from durable.large_values")}
    sizes |= held.ask("select sha256, sum(length(data))::bigint from durable.value_parts group by sha256")
    return [(sha256, size) for sha256, size in sizes.items() if sha256 not in used]


def list_pickled(reader: Reader) -> Iterator[tuple[str, str]]:
    """Yield the rows with a value that was saved by pickle: the workflow, and the step key or what it is of it."""
    for record in reader.workflows():
        name = record.workflow_id
        of_it = [("its arguments", record.arguments), ("its result", record.output)]
        steps = [*reader.steps(name), *reader.attempts(name)]
        for what, text in [*of_it, *((step.step_key, step.output) for step in steps)]:
            if PICKLE_MARK in (text or ""):
                yield name, what
