"""The panel: a workflow to step through, crash and resume. It shows the controller's state, and has no logic."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from durable.dashboard import LOOK, module_of
from durable.lab.controller import Controller

_HERE = Path(__file__).parent


class Panel(anywidget.AnyWidget):
    """The widget. Its JavaScript outlives the kernel, and says what became of it."""

    _esm = module_of(_HERE / "panel.js")
    _css = LOOK
    state = traitlets.Dict().tag(sync=True)

    def __init__(self, workflow: Callable[..., Any], workflow_id: str, **options: Any) -> None:
        super().__init__()
        self.controller = Controller(workflow, workflow_id, on_change=self._show, **options)
        self.on_msg(lambda _, message, __: self.controller.handle(message))
        self.controller.open()

    def _show(self, state: dict[str, Any]) -> None:
        self.state = state

    def __repr__(self) -> str:
        state = self.state
        return f"panel of {state['workflow']} {state['workflow_id']!r} in {state['database']}: run this cell to see it"


def panel(
    workflow: Callable[..., Any], workflow_id: str, *, db: str | os.PathLike[str] = "workflow.db", **kwargs: Any
) -> Panel:
    """Show a panel for one workflow, with its keyword arguments: step it, run it, crash it, resume it.

    This call is the whole cell, with the imports that it needs: after a crash the variables of other cells are gone.
    Running the cell again is the resume. Raises what `Engine(db)` raises.
    """
    return Panel(workflow, workflow_id, db=db, kwargs=kwargs)
