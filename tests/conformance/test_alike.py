"""Random programs: on both engines they have the same steps, outputs and outcome."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.conformance.engines import AnyEngine, Lab
from tests.support.programs import Program, programs, run_program

EXAMPLES = int(os.environ.get("CONFORMANCE_EXAMPLES", "25"))
_numbers = itertools.count(1)


@pytest.fixture
def both(dbos_database: Callable[[], str], tmp_path: Path) -> Iterator[list[AnyEngine]]:
    with ExitStack() as opened:
        labs = [Lab("sqlite", str(tmp_path / "workflow.db")), Lab("dbos", dbos_database())]
        yield [opened.enter_context(lab.open()) for lab in labs]


def story(engine: AnyEngine, workflow_id: str, program: Program) -> list[Any]:
    """How it ended, twice, and all that is on record of it and its children."""
    told: list[Any] = []
    for _ in range(2):
        try:
            told.append(engine.run(workflow_id, run_program, program))
        except Exception as error:
            told.append((type(error).__name__, str(error)))
    family = sorted(each.workflow_id for each in engine.workflows() if each.workflow_id.startswith(workflow_id))
    told += [(each, engine.workflow(each).status) for each in family]
    told += [[facts(step) for step in engine.steps(each)] for each in family]
    return told


def facts(step: Any) -> tuple[Any, ...]:
    return step.step_key, step.kind, step.status, step.value, step.attempt, step.fingerprint


def has_messages(program: Any) -> bool:
    """They are sent from within a step, on the file."""
    return program == "message" or (isinstance(program, list) and any(map(has_messages, program)))


@pytest.mark.thorough
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(program=programs.filter(lambda program: not has_messages(program)))
def test_a_generated_program_does_the_same_on_both_engines(both: list[AnyEngine], program: Program) -> None:
    workflow_id = f"wf{next(_numbers)}-"
    on_file, on_dbos = (story(engine, workflow_id, program) for engine in both)

    assert on_dbos == on_file
