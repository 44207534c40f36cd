"""Deleting: an id begins anew, and so do the children that its workflow asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable import Context, Engine, WorkflowBusyError
from durable.store.ownership.owner import Owner
from tests.support.workflows import act, effects


def equip(ctx: Context, what: str) -> str:
    return ctx.step(act, what)


def onboard(ctx: Context) -> str:
    return ctx.child(equip, "laptop").result()


def test_a_deleted_workflow_takes_its_children_along(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", onboard)
        engine.delete("emp_001")
        left = engine.workflows()
        engine.run("emp_001", onboard)

    assert left == []
    assert effects(database) == ["act_1", "act_1"]


def test_nothing_is_deleted_while_a_child_runs(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", onboard)
        before = engine.workflows()
        owner = Owner(database, "emp_001/equip_1")
        with pytest.raises(WorkflowBusyError):
            engine.delete("emp_001")
        owner.release()

        assert [record.workflow_id for record in before] == ["emp_001", "emp_001/equip_1"]
        assert engine.workflows() == before
        engine.delete("emp_001")  # the parent's lock was given back
        assert engine.workflows() == []
